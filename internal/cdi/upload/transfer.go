package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/volume"
)

const (
	maxIdentity = 128
	// journalSource tells uploads from imports in the journal.
	journalSource = "upload"
)

// transfer is one request that uploads.
type transfer struct {
	identity string
	// length of the whole content, 0 when it is not known.
	length int64
	// offset of the body's first byte in it.
	offset int64
	// resumes tells that the client said where it begins, and so can be told to begin elsewhere.
	resumes bool
	content stream.Content
	done    chan struct{}
	body    *body
}

// newTransfer reads what the request says about itself.
func newTransfer(r *http.Request, archive bool) (*transfer, error) {
	t := &transfer{identity: r.Header.Get(names.HeaderIdentity), done: make(chan struct{})}
	if len(t.identity) > maxIdentity {
		return nil, fmt.Errorf("%s may have %d characters at most", names.HeaderIdentity, maxIdentity)
	}
	var err error
	if t.length, err = number(r.Header.Get(names.HeaderLength)); err != nil {
		return nil, fmt.Errorf("%s: %w", names.HeaderLength, err)
	}
	if t.offset, err = number(r.Header.Get(names.HeaderOffset)); err != nil {
		return nil, fmt.Errorf("%s: %w", names.HeaderOffset, err)
	}
	t.resumes = t.identity != "" && r.Header.Get(names.HeaderOffset) != ""
	switch kind := r.Header.Get(names.HeaderContentType); {
	case kind == names.ContentFilesystem:
		t.content = stream.FilesystemClone
	case kind == names.ContentBlockdevice:
		t.content = stream.BlockClone
	case kind == string(stream.SparseClone):
		t.content = stream.SparseClone
	case archive:
		t.content = stream.Archive
	}
	if t.offset > 0 && (t.identity == "" || !t.resumable()) {
		return nil, fmt.Errorf("%s needs an %s, and the content to be a disk image: send it from its beginning", names.HeaderOffset, names.HeaderIdentity)
	}
	return t, nil
}

func number(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a number of bytes")
	}
	return n, nil
}

// resumable: files that are unpacked into a claim are not.
func (t *transfer) resumable() bool {
	return t.content != stream.Archive && t.content != stream.FilesystemClone
}

// clone says that the content is another claim's.
func (t *transfer) clone() bool {
	return t.content != stream.Archive && t.content != stream.DiskImage
}

// interrupt ends the body as a cut connection would.
func (t *transfer) interrupt() { t.body.interrupt() }

// entry is the journal's, if it is of the same content.
func (t *transfer) entry(j volume.Journal) *volume.Entry {
	e := j.Load()
	if e == nil || e.Source != journalSource || e.Identity != t.identity || t.identity == "" || (t.length > 0 && e.Length > 0 && e.Length != t.length) {
		return nil
	}
	return e
}

// body is a request's content with a bound on how long it may stand still.
type body struct {
	reader  io.Reader
	control *http.ResponseController
	idle    time.Duration
	set     time.Time // when the deadline was set
	cut     atomic.Bool
	once    sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	if b.cut.Load() {
		return 0, errInterrupted
	}
	if now := time.Now(); now.Sub(b.set) > min(time.Second, b.idle/10) {
		// Not every connection can do this; then the client's own end is waited for.
		_ = b.control.SetReadDeadline(now.Add(b.idle))
		b.set = now
	}
	if b.cut.Load() {
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	}
	n, err := b.reader.Read(p)
	if err != nil && b.cut.Load() {
		err = errInterrupted
	}
	return n, err
}

var errInterrupted = errors.New("the upload server ends the connection")

func (b *body) interrupt() {
	b.once.Do(func() {
		b.cut.Store(true)
		_ = b.control.SetReadDeadline(time.Unix(1, 0))
	})
}

// plainBody is the request's own content.
func plainBody(r *http.Request) (io.Reader, int64, error) { return r.Body, r.ContentLength, nil }

// formBody is the field "file" of a form.
func formBody(r *http.Request) (io.Reader, int64, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, 0, fmt.Errorf("the request is no form: %w", err)
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return nil, 0, fmt.Errorf("the form has no field %q: %w", names.FormField, err)
		}
		if part.FormName() == names.FormField {
			return part, -1, nil
		}
	}
}
