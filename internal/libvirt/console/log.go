package console

import (
	"bytes"
	"fmt"
	"io"
)

// MaxLine bounds a line of the log; longer ones are cut into several.
const MaxLine = 4 << 10

// lineLog copies a guest's output line by line, as text: without carriage returns, escape sequences and other control
// characters, which could play tricks on the terminal of whoever reads the log.
type lineLog struct {
	out  io.Writer
	seqs sequences
	line []byte
}

func (l *lineLog) Write(p []byte) {
	l.seqs.feed(p, l.text, func([]byte) {})
}

func (l *lineLog) text(p []byte) {
	for _, b := range p {
		switch {
		case b == '\n':
			l.flush()
		case b == '\t' || b >= 0x20 && b != 0x7f:
			if len(l.line) >= MaxLine {
				l.flush()
			}
			l.line = append(l.line, b)
		}
	}
}

func (l *lineLog) flush() {
	l.line = append(bytes.ToValidUTF8(l.line, []byte("\ufffd")), '\n')
	_, _ = l.out.Write(l.line)
	l.line = l.line[:0]
}

// close writes what is left of an unfinished line.
func (l *lineLog) close() {
	if len(l.line) > 0 {
		l.flush()
	}
}

func (l *lineLog) lost(n int64) {
	l.close()
	_, _ = fmt.Fprintf(l.out, "[%d bytes of console output are not in this log]\n", n)
}
