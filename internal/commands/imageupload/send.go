package imageupload

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// send brings the content to the upload server, however often the way breaks.
func (j *job) send(ctx context.Context) error {
	d, err := j.door(ctx)
	if err != nil {
		return j.left(err)
	}
	identity, err := j.source.identity()
	if err != nil {
		return err
	}
	j.tell("Uploading data to %s\n", d.address)
	s := &sender{door: d, source: j.source, identity: identity, retries: int(j.options.Retry), say: j.factory.Streams.Say, settle: j.settled}
	s.progress = newProgress(j.factory.Streams, j.source.length)
	j.sender = s
	own := make(chan hashed, 1)
	hashing, stop := context.WithCancel(ctx)
	defer stop()
	if j.source.resumable() {
		go func() {
			digest, err := j.source.digest(hashing, func(int64) {})
			own <- hashed{digest, err}
		}()
	}
	err = s.run(ctx)
	s.progress.end(err == nil)
	j.result.Sent, j.result.Resumed = s.sent.Load(), s.resumed
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return j.left(err)
	}
	if err := j.source.touched(); err != nil {
		return j.left(err)
	}
	if !j.source.resumable() {
		own <- hashed{s.piped(), nil}
	}
	return j.verify(ctx, s, own)
}

// hashed is a digest on its way.
type hashed struct {
	digest string
	err    error
}

// verify compares what was read with what has arrived.
func (j *job) verify(ctx context.Context, s *sender, own <-chan hashed) error {
	var mine hashed
	select {
	case mine = <-own:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if mine.err != nil {
		return mine.err
	}
	j.result.Digest = mine.digest
	if s.arrived != "" && s.arrived != mine.digest {
		return j.left(fmt.Errorf("the content was damaged on its way: %s was sent, %s has arrived; delete the volume and upload again", mine.digest, s.arrived))
	}
	return nil
}

// sender speaks the upload protocol.
type sender struct {
	door     *door
	source   *source
	identity string
	retries  int
	progress *progress
	say      func(string, ...any)
	// settle waits until the server takes data again; true when it has everything already.
	settle func(ctx context.Context) (bool, error)

	sent    atomic.Int64
	resumed int64
	// arrived is the digest that the server reports.
	arrived string
	// pipe is the digest of what was read from a pipe.
	pipe hash.Hash
}

func (s *sender) piped() string {
	if s.pipe == nil {
		return ""
	}
	return "sha256:" + hex.EncodeToString(s.pipe.Sum(nil))
}

// sofar says how much was sent.
func (s *sender) sofar() string {
	if s.source.length < 0 {
		return volume.Bytes(s.sent.Load()) + " were sent"
	}
	return fmt.Sprintf("%s of %s were sent", volume.Bytes(s.progress.position()), volume.Bytes(s.source.length))
}

// standing is what the server says before anything is sent.
type standing struct {
	// path is where to send: the asynchronous one where the server has it.
	path string
	// offset is how much of this very content is safe.
	offset int64
	// resumable is true when the server says so.
	resumable bool
	// done is true when the server has everything.
	done bool
}

// run sends until the server has everything, or trying again makes no sense.
func (s *sender) run(ctx context.Context) error {
	tries, furthest := 0, int64(-1)
	var last error
	for {
		before, err := s.ask(ctx)
		if err == nil {
			if before.done {
				return nil
			}
			if before.offset > furthest {
				tries, furthest = 0, before.offset
			}
			err = s.post(ctx, before)
			if err == nil {
				return nil
			}
		}
		last = err
		var again *againError
		if !errors.As(err, &again) || ctx.Err() != nil {
			return err
		}
		if !s.source.resumable() && s.sent.Load() > 0 {
			return fmt.Errorf("%w; a pipe cannot be read twice: put the image into a file to have uploads go on where they stop", last)
		}
		if tries++; tries > s.retries {
			return fmt.Errorf("error uploading image after %d retries: %w", s.retries, last)
		}
		s.say("%s; trying again (%d of %d)\n", last, tries, s.retries)
		if again.token {
			if err := s.door.renew(ctx); err != nil {
				return err
			}
			continue
		}
		if err := backOff(ctx, tries); err != nil {
			return err
		}
		if done, err := s.settle(ctx); done || err != nil {
			return err
		}
	}
}

// backOff waits longer each time: a server that starts again needs a moment.
func backOff(ctx context.Context, tries int) error {
	timer := time.NewTimer(min(8*time.Second, 125*time.Millisecond<<tries))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// ask finds out what the server has already.
func (s *sender) ask(ctx context.Context) (standing, error) {
	path := "upload-async"
	if s.source.archive {
		return standing{path: "upload"}, nil
	}
	req, err := s.door.request(ctx, http.MethodHead, path)
	if err != nil {
		return standing{}, err
	}
	resp, err := s.door.http.Do(req)
	if err != nil {
		return standing{}, &againError{err: s.broken(err)}
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return s.standing(path, resp.Header), nil
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return standing{path: "upload"}, nil
	case http.StatusConflict:
		return standing{done: true}, nil
	}
	return standing{}, s.refusal(resp.StatusCode, "")
}

func (s *sender) standing(path string, header http.Header) standing {
	offset, err := strconv.ParseInt(header.Get(names.HeaderOffset), 10, 64)
	// Another file's beginning is of no use.
	if err != nil || offset < 0 || offset > s.source.length || header.Get(names.HeaderIdentity) != s.identity || s.identity == "" {
		offset = 0
	}
	return standing{path: path, offset: offset, resumable: err == nil}
}

// body gives the content from an offset on.
func (s *sender) body(offset int64) io.Reader {
	if s.source.file != nil {
		return io.NewSectionReader(s.source.file, offset, s.source.length-offset)
	}
	s.pipe = sha256.New()
	return io.TeeReader(s.source.stream, s.pipe)
}

// post sends the content from where the server stands.
func (s *sender) post(ctx context.Context, from standing) error {
	req, err := s.door.request(ctx, http.MethodPost, from.path)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	if s.source.length >= 0 {
		req.ContentLength = s.source.length - from.offset
		req.Header.Set(names.HeaderLength, strconv.FormatInt(s.source.length, 10))
	}
	if from.resumable && s.identity != "" {
		req.Header.Set(names.HeaderIdentity, s.identity)
		// Said even when it is 0: what the server has kept since it was asked, of a client that died a moment ago, is not sent again.
		req.Header.Set(names.HeaderOffset, strconv.FormatInt(from.offset, 10))
	}
	if from.offset > 0 {
		s.resumed = from.offset
		s.say("going on at %s of %s\n", volume.Bytes(from.offset), volume.Bytes(s.source.length))
	}
	s.progress.at(from.offset)
	// A body of no length is sent as none at all, and the server would have nothing to end.
	if req.ContentLength != 0 || s.source.length < 0 {
		req.Body = &counted{reader: s.body(from.offset), sender: s}
	}
	resp, err := s.door.http.Do(req)
	if err != nil {
		return &againError{err: s.broken(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusAccepted {
		s.arrived = digestOf(resp.Header.Get(names.HeaderDigest))
		return nil
	}
	if resp.StatusCode == http.StatusConflict && resp.Header.Get(names.HeaderOffset) != "" {
		return &againError{err: errors.New("the server stands elsewhere than it said")}
	}
	if resp.StatusCode == http.StatusConflict {
		return nil // an earlier request has finished it
	}
	return s.refusal(resp.StatusCode, strings.TrimSpace(string(text)))
}

// counted is the body of a request.
type counted struct {
	reader io.Reader
	sender *sender
	closed atomic.Bool
}

func (c *counted) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	n, err := c.reader.Read(p)
	c.sender.sent.Add(int64(n))
	c.sender.progress.add(n)
	return n, err
}

// Close leaves the file open: the content may be needed again.
func (c *counted) Close() error {
	c.closed.Store(true)
	return nil
}

// digestOf reads "sha-256=:BASE64:".
func digestOf(header string) string {
	for part := range strings.SplitSeq(header, ",") {
		value, found := strings.CutPrefix(strings.TrimSpace(part), "sha-256=:")
		if !found {
			continue
		}
		sum, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(value, ":"))
		if err == nil && len(sum) == sha256.Size {
			return "sha256:" + hex.EncodeToString(sum)
		}
	}
	return ""
}

// againError is a failure that another try may mend.
type againError struct {
	err error
	// token is true when a fresh token is needed first.
	token bool
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// broken is an error of the connection. Its cause is left out: hints about the API server would not fit a proxy.
func (s *sender) broken(err error) error {
	text := "the connection to " + s.door.address + " broke: " + short(err)
	if strings.Contains(text, "x509:") && s.door.fetch != nil {
		text += "; --insecure does without checking the certificate"
	}
	return problem.New(problem.Unreachable, "%s", text)
}

// refusal tells what the server's answer means.
func (s *sender) refusal(code int, text string) error {
	if message := statusMessage(text); message != "" {
		text = message
	}
	if text == "" {
		text = http.StatusText(code)
	}
	err := fmt.Errorf("unexpected return value %d, %s", code, text)
	switch code {
	case http.StatusUnauthorized:
		if s.door.fetch == nil {
			return problem.New(problem.Forbidden, "authentication failed: %w; log in again", err)
		}
		return &againError{err: fmt.Errorf("authentication failed: %w", err), token: true}
	case http.StatusForbidden:
		return problem.New(problem.Forbidden, "%w; the permission to create uploads/proxy.upload.cdi.kubevirt.io is part of the ClusterRoles admin and edit", err)
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return problem.New(problem.Invalid, "the image was refused: %w", err)
	case http.StatusInsufficientStorage:
		return problem.New(problem.Invalid, "the volume is full: %w", err)
	}
	return &againError{err: err}
}
