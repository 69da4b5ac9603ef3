/*
 * pause holds a pod's namespaces: it collects orphans and ends on SIGTERM or SIGINT. Built without a C library, so that one costs a
 * pod a few pages of memory. All signals stay blocked and are waited for; that works for process 1 too, which has no default actions.
 */
#include <asm/unistd.h>

#define SIG_INT 2
#define SIG_TERM 15
#define SIG_CHLD 17
#define SIG_BLOCK 0
#define WNOHANG 1

static long call(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#else
#error "pause knows x86_64 and aarch64 only"
#endif
}

void _start(void)
{
	unsigned long all = ~0UL;
	call(__NR_rt_sigprocmask, SIG_BLOCK, (long)&all, 0, sizeof(all));
	for (;;) {
		long sig = call(__NR_rt_sigtimedwait, (long)&all, 0, 0, sizeof(all));
		if (sig == SIG_TERM || sig == SIG_INT)
			call(__NR_exit_group, 0, 0, 0, 0);
		if (sig == SIG_CHLD)
			while (call(__NR_wait4, -1, 0, WNOHANG, 0) > 0)
				;
	}
}
