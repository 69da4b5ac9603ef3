// Package terminal holds a command's input and output streams; whether each is a terminal is data, so that tests decide it.
package terminal

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Streams are what a command reads and writes. Out carries data, Err carries talk.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	InTTY, OutTTY, ErrTTY bool
}

// System gives the process's own streams.
func System() *Streams {
	return &Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTTY: isTerminal(os.Stdin), OutTTY: isTerminal(os.Stdout), ErrTTY: isTerminal(os.Stderr),
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Raw puts the input terminal into raw mode; restore undoes it. Without a terminal both do nothing.
func (s *Streams) Raw() (restore func(), err error) {
	file, ok := s.In.(*os.File)
	if !ok || !s.InTTY {
		return func() {}, nil
	}
	state, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("switch the terminal to raw mode: %w", err)
	}
	return func() { _ = term.Restore(int(file.Fd()), state) }, nil
}

// Width is the output terminal's width in columns, or 0 when there is none.
func (s *Streams) Width() int {
	file, ok := s.Out.(*os.File)
	if !ok || !s.OutTTY {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Print writes data.
func (s *Streams) Print(format string, args ...any) { _, _ = fmt.Fprintf(s.Out, format, args...) }

// Say writes talk.
func (s *Streams) Say(format string, args ...any) { _, _ = fmt.Fprintf(s.Err, format, args...) }
