package upload

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/linger"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/volume"
)

// opener finds the content in a request, and its length, -1 if that is not known.
type opener func(*http.Request) (io.Reader, int64, error)

// handler answers HEAD and POST of an upload path.
func (s *Server) handler(open opener, archive bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost && r.Method != http.MethodHead {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if !s.proxied(r) && !s.guest(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodHead {
			s.head(w)
			return
		}
		x, r := linger.Begin(w, r)
		s.take(w, r, open, archive)
		x.End(linger.Patience)
	})
}

// take answers a POST.
func (s *Server) take(w http.ResponseWriter, r *http.Request, open opener, archive bool) {
	t, err := newTransfer(r, archive)
	if err != nil {
		linger.Text(w, http.StatusBadRequest, err.Error())
		return
	}
	t.body = &body{control: http.NewResponseController(w), idle: s.config.Idle}
	if err := s.begin(r.Context(), t); err != nil {
		code := http.StatusServiceUnavailable
		if errors.Is(err, errDone) {
			code = http.StatusConflict
		}
		linger.Text(w, code, err.Error())
		return
	}
	s.post(w, r, t, open)
}

// head tells how much is safe.
func (s *Server) head(w http.ResponseWriter) {
	s.mu.Lock()
	done := s.result != nil
	s.mu.Unlock()
	if done {
		w.WriteHeader(http.StatusConflict)
		return
	}
	offset := int64(0)
	if e := s.config.Volume.Journal().Load(); e != nil && e.Source == journalSource {
		offset = e.Checkpoint.Offset
		w.Header().Set(names.HeaderIdentity, e.Identity)
		if e.Length > 0 {
			w.Header().Set(names.HeaderLength, strconv.FormatInt(e.Length, 10))
		}
	}
	w.Header().Set(names.HeaderOffset, strconv.FormatInt(offset, 10))
	w.WriteHeader(http.StatusOK)
}

func (s *Server) post(w http.ResponseWriter, r *http.Request, t *transfer, open opener) {
	var result *Result
	var failure error
	defer func() {
		s.end(t)
		if result != nil || failure != nil {
			s.finish(result, failure)
		}
	}()
	resume, ok := s.continues(w, t)
	if !ok {
		return
	}
	reader, length, err := open(r)
	if err != nil {
		linger.Text(w, http.StatusBadRequest, err.Error())
		return
	}
	if t.length == 0 && length >= 0 {
		t.length = t.offset + length
	}
	if t.length == 0 && length == 0 {
		linger.Text(w, http.StatusBadRequest, "Saving stream failed: the upload is empty")
		return
	}
	t.body.reader = reader
	// The disk is completed even if the client leaves after its last byte.
	res, err := s.save(context.WithoutCancel(r.Context()), t, resume)
	if err != nil {
		failure = s.refuse(w, t, err)
		return
	}
	if t.clone() {
		if err := s.config.Volume.Journal().Remove(); err != nil {
			s.config.Logf("%v", err)
		}
	}
	// An upload's journal stays, at its end: if the pod is killed before anybody has read its result, the next need not be sent anything.
	result = &Result{Result: res, Clone: t.clone()}
	if len(res.Digest) > 0 {
		w.Header().Set(names.HeaderDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(res.Digest)+":")
	}
	w.Header().Set(names.HeaderOffset, strconv.FormatInt(res.SourceBytes, 10))
	w.WriteHeader(http.StatusOK)
}

// continues finds where the upload goes on; false after an answer that says where it could.
func (s *Server) continues(w http.ResponseWriter, t *transfer) (*volume.Entry, bool) {
	journal := s.config.Volume.Journal()
	e := t.entry(journal)
	if t.offset == 0 && (e == nil || e.Checkpoint.Offset == 0 || !t.resumes) {
		if err := journal.Remove(); err != nil {
			linger.Text(w, http.StatusInternalServerError, "Saving stream failed: "+err.Error())
			return nil, false
		}
		return nil, true
	}
	if e != nil && e.Checkpoint.Offset == t.offset {
		return e, true
	}
	offset := int64(0)
	if e != nil {
		offset = e.Checkpoint.Offset
	}
	w.Header().Set(names.HeaderOffset, strconv.FormatInt(offset, 10))
	linger.Text(w, http.StatusConflict, fmt.Sprintf("the upload goes on at byte %d, not at %d", offset, t.offset))
	return nil, false
}

// save writes the content into the claim.
func (s *Server) save(ctx context.Context, t *transfer, resume *volume.Entry) (stream.Result, error) {
	opts := s.config.Options
	if s.config.Measure != nil {
		now, err := s.config.Measure()
		if err != nil {
			return stream.Result{}, &stream.NoSpaceError{Target: s.config.Volume.Disk, Err: err}
		}
		opts = now
	}
	opts.Content, opts.Size, opts.Progress = t.content, t.length, s.config.Progress.Set
	if t.content == stream.Archive || t.content == stream.FilesystemClone {
		return s.extract(ctx, t, opts)
	}
	spool := s.mustSpool()
	if resume != nil {
		opts.Resume, spool = &resume.Checkpoint, resume.Spool
	}
	if spool {
		return s.store(ctx, t, t.body, opts)
	}
	opts.Checkpointer = s.checkpointer(t, false)
	res, err := stream.Copy(ctx, t.body, s.config.Volume.Disk, opts)
	var need *stream.NeedsSpoolError
	if !errors.As(err, &need) {
		return res, err
	}
	if need.Rest == nil {
		s.mu.Lock()
		s.spool = true
		s.mu.Unlock()
		return res, errors.Join(errAgain, s.config.Volume.Journal().Remove())
	}
	return s.store(ctx, t, need.Rest, opts)
}

// errAgain asks the client to send everything again: only now is it known that the image must be stored first.
var errAgain = errors.New("this image must be stored before it can be converted: send it again from its beginning")

func (s *Server) mustSpool() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spool
}

var errNoFiles = errors.New("files can only be unpacked into a claim with the volume mode Filesystem")

// extract unpacks files into the claim.
func (s *Server) extract(ctx context.Context, t *transfer, opts stream.Options) (stream.Result, error) {
	if s.config.Volume.Block() {
		return stream.Result{}, errNoFiles
	}
	return stream.Extract(ctx, t.body, s.config.Volume.Dir, opts)
}

// store keeps the image on scratch space and converts it from there.
func (s *Server) store(ctx context.Context, t *transfer, src io.Reader, opts stream.Options) (stream.Result, error) {
	v := s.config.Volume
	if opts.Resume == nil && !v.CanSpool(t.length) {
		return stream.Result{}, &ScratchError{Bytes: max(t.length, opts.Available)}
	}
	opts.Checkpointer = s.checkpointer(t, true)
	res, err := stream.Spool(ctx, src, v.SpoolFile(), v.Disk, opts)
	var (
		cut  *stream.SourceError
		full *stream.NoSpaceError
	)
	if errors.As(err, &cut) {
		// What arrived stays, to go on from.
		return res, err
	}
	if removed := os.Remove(v.SpoolFile()); err == nil && removed != nil {
		return res, fmt.Errorf("remove the copy of the image: %w", removed)
	}
	if err == nil {
		// What it goes on from, the copy, is gone.
		return res, v.Journal().Remove()
	}
	if errors.As(err, &full) && v.Scratch == "" {
		return res, errors.Join(&ScratchError{Bytes: max(t.length, opts.Available)}, v.Journal().Remove())
	}
	return res, err
}

// checkpointer keeps progress if the client told how to know the content again.
func (s *Server) checkpointer(t *transfer, spool bool) stream.Checkpointer {
	if t.identity == "" {
		return nil
	}
	journal := s.config.Volume.Journal()
	return stream.CheckpointFunc(func(c stream.Checkpoint) error {
		return journal.Save(volume.Entry{Identity: t.identity, Source: journalSource, Length: t.length, Spool: spool, Checkpoint: c})
	})
}

// refuse answers for a failure. What it returns ends the server.
func (s *Server) refuse(w http.ResponseWriter, t *transfer, err error) error {
	var (
		scratch  *ScratchError
		cut      *stream.SourceError
		large    *stream.TooLargeError
		full     *stream.NoSpaceError
		refused  *image.RefusedError
		damaged  *image.CorruptError
		unpacked *image.CompressionError
		member   *stream.EntryError
	)
	s.config.Logf("the upload failed: %v", err)
	switch {
	case errors.As(err, &scratch):
		linger.Text(w, http.StatusServiceUnavailable, "this image needs scratch space, which is being prepared: send it again")
		return err
	case errors.Is(err, errAgain):
		w.Header().Set(names.HeaderOffset, "0")
		linger.Text(w, http.StatusServiceUnavailable, err.Error())
	case errors.As(err, &cut):
		// What arrived is safe. Most often nobody reads this answer.
		linger.Text(w, http.StatusInternalServerError, "Saving stream failed: "+err.Error())
	case errors.As(err, &large), errors.As(err, &full):
		s.forget(t)
		linger.Text(w, http.StatusBadRequest, "Saving stream failed: effective image size is larger than the reported available storage: "+err.Error())
	case errors.As(err, &refused), errors.As(err, &damaged), errors.As(err, &unpacked), errors.As(err, &member), errors.Is(err, errNoFiles):
		// The same content would fail again.
		s.forget(t)
		linger.Text(w, http.StatusBadRequest, "Saving stream failed: "+err.Error())
	default:
		s.forget(t)
		linger.Text(w, http.StatusInternalServerError, "Saving stream failed: "+err.Error())
	}
	return nil
}

// forget leaves nothing of an upload that cannot go on.
func (s *Server) forget(t *transfer) {
	if !t.resumable() {
		return
	}
	if err := s.config.Volume.Clean(); err != nil {
		s.config.Logf("%v", err)
	}
}
