package vnc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
)

// viewer is a program of this computer that shows a screen.
type viewer struct {
	kind, path string
}

// candidate is where a kind of viewer may be found.
type candidate struct {
	kind  string
	paths []string
}

func viewerNames() []string { return []string{"tiger", "chicken", "real", "remote-viewer"} }

// candidates are the viewers to look for, the preferred ones first.
func candidates(system string) []candidate {
	if system == "darwin" {
		return []candidate{
			{"tiger", []string{"/Applications/TigerVNC Viewer*.app/Contents/MacOS/TigerVNC Viewer", "/Applications/TigerVNC.app/Contents/MacOS/TigerVNC Viewer"}},
			{"chicken", []string{"/Applications/Chicken.app/Contents/MacOS/Chicken"}},
			{"real", []string{"/Applications/VNC Viewer.app/Contents/MacOS/vncviewer"}},
			{"remote-viewer", []string{"remote-viewer"}},
		}
	}
	return []candidate{
		{"remote-viewer", []string{"remote-viewer"}},
		{"tiger", []string{"vncviewer", "xtigervncviewer"}},
		{"real", []string{"vncviewer"}},
	}
}

// findViewer finds the viewer that was asked for, or the first there is.
func findViewer(kind, path string) (*viewer, error) {
	if kind != "" && !slices.Contains(viewerNames(), kind) {
		return nil, problem.Usagef("--vnc-type %q is not known: use one of %s", kind, strings.Join(viewerNames(), ", "))
	}
	if path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return nil, problem.Usagef("--vnc-path: %w", err)
		}
		if kind == "" {
			kind = kindOfPath(path)
		}
		return &viewer{kind, found}, nil
	}
	for _, c := range candidates(runtime.GOOS) {
		if kind != "" && c.kind != kind {
			continue
		}
		for _, name := range c.paths {
			if found, ok := locate(name); ok {
				return &viewer{c.kind, found}, nil
			}
		}
	}
	if kind != "" {
		return nil, problem.New(problem.Failure, "could not find the %s viewer: install it, name it with --vnc-path, or use --proxy-only", kind)
	}
	return nil, problem.New(problem.Failure, "could not find remote-viewer or vncviewer binary in $PATH: install one, name one with --vnc-path, or use --proxy-only")
}

func kindOfPath(path string) string {
	if base := filepath.Base(path); strings.Contains(base, "remote-viewer") || strings.Contains(base, "virt-viewer") {
		return "remote-viewer"
	}
	return "tiger"
}

func locate(name string) (string, bool) {
	if !filepath.IsAbs(name) {
		found, err := exec.LookPath(name)
		return found, err == nil
	}
	matches, err := filepath.Glob(name)
	if err != nil || len(matches) == 0 {
		return "", false
	}
	_, err = os.Stat(matches[0])
	return matches[0], err == nil
}

func (v *viewer) arguments(address *net.TCPAddr) []string {
	at := net.JoinHostPort(address.IP.String(), strconv.Itoa(address.Port))
	switch v.kind {
	case "remote-viewer":
		return []string{"vnc://" + at}
	case "real":
		return []string{at, "-WarnUnencrypted=0", "-Shared=0", "-ShareFiles=0", "-SecurityNotificationTimeout=0"}
	}
	// Two colons: what follows is a port, whatever its number.
	return []string{fmt.Sprintf("%s::%d", address.IP, address.Port)}
}

// start runs the viewer; it tells when the viewer has ended.
func (v *viewer) start(ctx context.Context, address *net.TCPAddr, streams *terminal.Streams, exited chan<- error) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, v.path, v.arguments(address)...)
	// A viewer's chatter is talk, whatever stream it uses.
	command.Stdout, command.Stderr = streams.Err, streams.Err
	if err := command.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start the viewer: %w", err)
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		exited <- command.Wait()
	}()
	return func() { cancel(); <-waited }, nil
}
