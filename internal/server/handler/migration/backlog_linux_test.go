package migration

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWindow(t *testing.T) {
	for roundTrip, want := range map[time.Duration]int{
		0:                      256 << 10,
		100 * time.Microsecond: 256 << 10,
		time.Millisecond:       1250000,
		10 * time.Millisecond:  12500000,
		time.Second:            16 << 20,
	} {
		if got := window(roundTrip); got != want {
			t.Errorf("%s: %d, want %d", roundTrip, got, want)
		}
	}
}

// What piles up before a target that does not read is what a guest stands still for at the end.
func TestLittleIsUnderWay(t *testing.T) {
	p := newPair(t, SourceCommonName, TargetCommonName)
	var target [2]int
	p.receiver.Expect("move-1", Guest{Done: func() {}, Open: func(context.Context, Stream) (_ *os.File, err error) {
		target, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return os.NewFile(uintptr(target[0]), "stream"), err
	}})
	conn := p.connect(t, "memory")
	must(t, conn.SetWriteDeadline(time.Now().Add(time.Second)))
	n, err := conn.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes were written: %v", n, err)
	}
	if most := 2 << 20; n > most {
		t.Errorf("%d bytes are under way, want at most %d", n, most)
	}
	must(t, unix.Close(target[1]))
}
