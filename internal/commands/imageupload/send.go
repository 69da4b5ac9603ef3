package imageupload

import (
	"context"
	"crypto/sha256"
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

	"virtctl/internal/cdi/image"
	"virtctl/internal/cdi/names"
	"virtctl/internal/commands/volume"
)

// send brings the content to the upload server, however often the way breaks.
func (j *job) send(ctx context.Context) error {
	if j.source.looking() {
		j.factory.Streams.Say("looking for zeros in %s, which need not be sent\n", j.source.name)
	}
	contents, err := j.source.contents(ctx)
	if err != nil {
		return err
	}
	d, err := j.door(ctx)
	if err != nil {
		return j.left(err)
	}
	j.tell("Uploading data to %s\n", d.address)
	own := make(chan hashed, 1)
	hashing, stop := context.WithCancel(ctx)
	defer stop()
	s := &sender{door: d, source: j.source, contents: contents, retries: int(j.options.Retry), direct: j.options.Direct, say: j.factory.Streams.Say, settle: j.settled}
	s.chosen = func(c *content) {
		s.progress = newProgress(j.factory.Streams, c.length)
		j.sends(c)
		if j.source.resumable() {
			go func() {
				digest, err := j.source.digest(hashing, c)
				own <- hashed{digest, err}
			}()
		}
	}
	j.sender = s
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

// sends keeps for the result what is sent.
func (j *job) sends(c *content) {
	j.result.Length, j.result.SentAs = c.length, ""
	if c.layout != "" {
		j.result.SentAs = string(image.QCOW2)
	}
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
	door   *door
	source *source
	// contents are what can be sent, content is what is: it is chosen when the server is known, and chosen is told.
	contents []*content
	content  *content
	chosen   func(*content)
	identity string
	retries  int
	progress *progress
	say      func(string, ...any)
	// direct is true while the way straight to the upload server may be tried, which did not do stumbled times.
	direct   bool
	stumbled int
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
	if s.content == nil || s.content.length < 0 {
		return volume.Bytes(s.sent.Load()) + " were sent"
	}
	return fmt.Sprintf("%s of %s were sent", volume.Bytes(s.progress.position()), volume.Bytes(s.content.length))
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
			way := s.shortcut(ctx)
			if way == nil {
				way = s.door
			}
			err = s.post(ctx, way, before)
			if err == nil {
				return nil
			}
			if way != s.door {
				s.stumbled++
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
		return standing{path: "upload"}, s.choose(false, "")
	}
	req, err := s.door.request(ctx, http.MethodHead, path)
	if err != nil {
		return standing{}, err
	}
	resp, err := s.door.http.Do(req)
	if err != nil {
		return standing{}, &againError{err: s.door.broken(err)}
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return s.standing(path, resp.Header)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return standing{path: "upload"}, s.choose(false, "")
	case http.StatusConflict:
		return standing{done: true}, s.choose(true, "")
	}
	return standing{}, s.door.refusal(resp.StatusCode, "")
}

func (s *sender) standing(path string, header http.Header) (standing, error) {
	offset, err := strconv.ParseInt(header.Get(names.HeaderOffset), 10, 64)
	resumable, begun := err == nil, ""
	if offset > 0 {
		begun = header.Get(names.HeaderIdentity)
	}
	if err := s.choose(resumable, begun); err != nil {
		return standing{}, err
	}
	// Another file's beginning is of no use.
	if !resumable || offset < 0 || offset > s.content.length || header.Get(names.HeaderIdentity) != s.identity || s.identity == "" {
		offset = 0
	}
	return standing{path: path, offset: offset, resumable: resumable}, nil
}

// choose decides once what is sent: what the server has begun with, else the shortest. Servers that tell an offset are this project's,
// and every version of them unpacks a qcow2 image as it comes; upstream's would ask for scratch space, and gets the file as it is.
func (s *sender) choose(ours bool, begun string) error {
	if s.content != nil {
		return nil
	}
	offers := s.contents
	if !ours {
		offers = offers[len(offers)-1:]
	}
	for i, c := range offers {
		identity, err := s.source.identity(c)
		if err != nil {
			return err
		}
		if i == 0 || identity == begun {
			s.content, s.identity = c, identity
		}
	}
	if s.content.layout != "" {
		s.say("the zeros of %s are left out: %s to send\n", s.source.name, volume.Bytes(s.content.length))
	}
	s.chosen(s.content)
	return nil
}

// body gives the content from an offset on.
func (s *sender) body(offset int64) io.Reader {
	if from := s.content.from; from != nil {
		return io.NewSectionReader(from, offset, s.content.length-offset)
	}
	s.pipe = sha256.New()
	return io.TeeReader(s.source.stream, s.pipe)
}

// post sends the content one way, from where the server stands.
func (s *sender) post(ctx context.Context, way *door, from standing) error {
	path := from.path
	if way.straight && s.source.archive {
		path = "upload-archive" // a proxy sees by the claim that it takes archives
	}
	req, err := way.request(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	if s.content.length >= 0 {
		req.ContentLength = s.content.length - from.offset
		req.Header.Set(names.HeaderLength, strconv.FormatInt(s.content.length, 10))
	}
	if from.resumable && s.identity != "" {
		req.Header.Set(names.HeaderIdentity, s.identity)
		// Said even when it is 0: what the server has kept since it was asked, of a client that died a moment ago, is not sent again.
		req.Header.Set(names.HeaderOffset, strconv.FormatInt(from.offset, 10))
	}
	if from.offset > 0 {
		s.resumed = from.offset
		s.say("going on at %s of %s\n", volume.Bytes(from.offset), volume.Bytes(s.content.length))
	}
	s.progress.at(from.offset)
	// A body of no length is sent as none at all, and the server would have nothing to end.
	if req.ContentLength != 0 || s.content.length < 0 {
		req.Body = &counted{reader: s.body(from.offset), sender: s}
	}
	resp, err := way.http.Do(req)
	if err != nil {
		return &againError{err: way.broken(err)}
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
	return way.refusal(resp.StatusCode, strings.TrimSpace(string(text)))
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
