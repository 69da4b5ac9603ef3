// Command probe is what the test's pods run: a small HTTP server, and the questions that the tests ask from inside a pod.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	switch args[0] {
	case "serve":
		return serve(ctx)
	case "get":
		return get(args[1])
	case "lookup":
		names, err := net.DefaultResolver.LookupHost(ctx, args[1])
		fmt.Println(strings.Join(names, " "))
		return err
	case "reverse":
		names, err := net.DefaultResolver.LookupAddr(ctx, args[1])
		fmt.Println(strings.Join(names, " "))
		return err
	case "read":
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(os.Stdout, io.LimitReader(f, 64))
		return err
	case "write":
		f, err := os.OpenFile(args[1], os.O_WRONLY|os.O_CREATE, 0o660)
		if err != nil {
			return err
		}
		_, err = f.WriteString(args[2])
		return firstError(err, f.Sync(), f.Close())
	case "size":
		var st syscall.Statfs_t
		err := syscall.Statfs(args[1], &st)
		fmt.Println(st.Bavail * uint64(st.Bsize))
		return err
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func serve(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{Addr: ":80", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, host) })}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Println("serving", host)
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

func get(url string) error {
	client := http.Client{Timeout: 3 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
