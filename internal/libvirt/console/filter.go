package console

// maxSequence bounds an escape sequence: what is longer was never one.
const maxSequence = 256

// sequences cuts a stream of terminal output into text and escape sequences (ECMA-48). It keeps its state between writes.
type sequences struct {
	state   byte // 0 text, 'e' after ESC, '[' in CSI, 's' in a string (OSC, DCS, APC, PM), 'x' after ESC in a string
	pending []byte
}

// feed calls text with every run of bytes outside sequences and seq with every complete sequence.
func (s *sequences) feed(p []byte, text, seq func([]byte)) {
	start := 0
	for i, b := range p {
		if s.state == 0 {
			if b == 0x1b {
				if i > start {
					text(p[start:i])
				}
				s.state, s.pending = 'e', append(s.pending[:0], b)
			}
			continue
		}
		s.pending = append(s.pending, b)
		if s.step(b) || len(s.pending) > maxSequence {
			seq(s.pending)
			s.state, start = 0, i+1
		}
	}
	if s.state == 0 && start < len(p) {
		text(p[start:])
	}
}

// step advances within a sequence and tells whether b ended it.
func (s *sequences) step(b byte) bool {
	switch s.state {
	case 'e':
		switch {
		case b == '[':
			s.state = '['
		case b == ']' || b == 'P' || b == '_' || b == '^':
			s.state = 's'
		case b >= 0x20 && b <= 0x2f: // intermediate byte, e.g. ESC ( B
		default:
			return true
		}
	case '[':
		return b >= 0x40 && b <= 0x7e || b < 0x20
	case 's':
		if b == 0x1b {
			s.state = 'x'
		}
		return b == 0x07
	case 'x':
		if b != '\\' {
			s.state = 's'
		}
		return b == '\\'
	}
	return false
}

// asksTerminal tells that a terminal would answer the sequence by typing into the guest: cursor position and status reports,
// device attributes, color and capability queries. An answer to a replayed question would reach a guest that asked long ago.
func asksTerminal(seq []byte) bool {
	if len(seq) < 2 {
		return false
	}
	last := seq[len(seq)-1]
	switch seq[1] {
	case '[':
		return last == 'n' || last == 'c' || last == 'x' || last == 't' || last == 'u' && len(seq) > 3 && seq[2] == '?'
	case 'Z':
		return true
	case 'P':
		return true
	case ']':
		for _, b := range seq {
			if b == '?' {
				return true
			}
		}
	}
	return false
}

// withoutQuestions is p without the sequences a terminal would answer.
func withoutQuestions(p []byte) []byte {
	out := make([]byte, 0, len(p))
	var s sequences
	s.feed(p, func(t []byte) { out = append(out, t...) }, func(q []byte) {
		if !asksTerminal(q) {
			out = append(out, q...)
		}
	})
	return out
}
