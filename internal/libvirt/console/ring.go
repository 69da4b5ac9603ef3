package console

// ring keeps the last bytes of a stream and knows every byte by its position in the whole stream.
type ring struct {
	buf []byte
	// end is the position after the last byte; the ring holds [end-held, end).
	end  int64
	held int
}

func newRing(size int) *ring { return &ring{buf: make([]byte, size)} }

func (r *ring) oldest() int64 { return r.end - int64(r.held) }

func (r *ring) write(p []byte) {
	if len(p) > len(r.buf) {
		r.end += int64(len(p) - len(r.buf))
		p = p[len(p)-len(r.buf):]
	}
	at := int(r.end % int64(len(r.buf)))
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.end += int64(len(p))
	r.held = min(r.held+len(p), len(r.buf))
}

// read copies bytes from position from on, which must lie between oldest and end, and returns how many.
func (r *ring) read(p []byte, from int64) int {
	n := min(len(p), int(r.end-from))
	at := int(from % int64(len(r.buf)))
	first := copy(p[:n], r.buf[at:])
	copy(p[first:n], r.buf)
	return n
}
