package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/metrics"
)

// cloner sends a claim's content to another claim's upload server.
type cloner struct {
	w        *Worker
	client   *http.Client
	url      string
	mount    string
	disk     string // the one disk in the claim, or the device; empty when the claim holds other files
	identity string
	progress func(done, total int64)
}

func (w *Worker) clone(ctx context.Context) (names.TerminationMessage, error) {
	progress := metrics.NewProgress(names.MetricCloneProgress, w.Env(names.EnvOwnerUID))
	if _, err := progress.Serve(ctx, w.Metrics); err != nil {
		return names.TerminationMessage{}, err
	}
	c, err := w.newCloner(progress.Set)
	if err != nil {
		return names.TerminationMessage{}, err
	}
	if err := source.Retry(ctx, w.Policy, func() error { return c.send(ctx) }); err != nil {
		return names.TerminationMessage{}, err
	}
	progress.SetPercent(100)
	text, applied := names.MessageCloneComplete, w.Env.flag(names.EnvPreallocation)
	return names.TerminationMessage{Message: &text, PreallocationApplied: &applied}, nil
}

func (w *Worker) newCloner(progress func(done, total int64)) (*cloner, error) {
	cert, err := tls.X509KeyPair([]byte(w.Env(names.EnvClientCert)), []byte(w.Env(names.EnvClientKey)))
	if err != nil {
		return nil, source.Fatalf(reasonInvalid, "%s and %s are no certificate: %w", names.EnvClientCert, names.EnvClientKey, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(w.Env(names.EnvServerCACert))) {
		return nil, source.Fatalf(reasonInvalid, "%s holds no certificate", names.EnvServerCACert)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots}, TLSHandshakeTimeout: 30 * time.Second,
		ExpectContinueTimeout: 10 * time.Second, WriteBufferSize: 256 << 10,
	}
	c := &cloner{w: w, client: &http.Client{Transport: transport}, url: w.Env(names.EnvUploadURL), mount: w.Env(names.EnvMountPoint), progress: progress}
	if c.mount == "" {
		c.mount = names.CloneMount
	}
	return c, c.look()
}

// look finds out what the claim holds.
func (c *cloner) look() error {
	st, err := os.Stat(c.mount)
	if err != nil {
		return source.Fatalf(reasonInvalid, "the claim to clone is not at %s: %w", c.mount, err)
	}
	if !st.IsDir() {
		c.disk, c.identity = c.mount, "clone:"+c.w.Env(names.EnvOwnerUID)
		return nil
	}
	entries, err := os.ReadDir(c.mount)
	if err != nil {
		return fmt.Errorf("look into the claim to clone: %w", err)
	}
	for _, e := range entries {
		switch {
		case e.Name() == "lost+found" || e.Name() == names.JournalFile:
		case e.Name() == names.DiskImage && e.Type().IsRegular():
			if st, err = e.Info(); err != nil {
				return fmt.Errorf("look into the claim to clone: %w", err)
			}
			c.disk = filepath.Join(c.mount, e.Name())
		default:
			c.disk = ""
			return nil
		}
	}
	// A disk that changes between two tries is another content.
	c.identity = fmt.Sprintf("clone:%s:%d:%d", c.w.Env(names.EnvOwnerUID), st.Size(), st.ModTime().UnixNano())
	return nil
}

// send sends everything that the other side has not yet.
func (c *cloner) send(ctx context.Context) error {
	offset, done, err := c.ask(ctx)
	if err != nil || done {
		return err
	}
	read, write := io.Pipe()
	defer read.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, read)
	if err != nil {
		return source.Fatalf(reasonInvalid, "%s cannot be used: %w", names.EnvUploadURL, err)
	}
	req.Header.Set(names.HeaderContentType, names.ContentFilesystem)
	// An answer that refuses comes before the content is sent.
	req.Header.Set("Expect", "100-continue")
	if c.disk != "" {
		req.Header.Set(names.HeaderContentType, string(stream.SparseClone))
		req.Header.Set(names.HeaderIdentity, c.identity)
		if offset > 0 {
			req.Header.Set(names.HeaderOffset, strconv.FormatInt(offset, 10))
		}
	}
	result := make(chan made, 1)
	go func() {
		res, err := c.content(ctx, write, offset)
		write.CloseWithError(err)
		result <- made{res, err}
	}()
	resp, err := c.client.Do(req)
	read.CloseWithError(errors.New("the other side ended the request"))
	sent := <-result
	if err != nil {
		return fmt.Errorf("send to the claim's upload server: %w", err)
	}
	defer resp.Body.Close()
	if err := c.accepted(resp); err != nil {
		return err
	}
	return sent.arrived(resp.Header.Get(names.HeaderDigest))
}

// made is what was sent.
type made struct {
	res stream.Result
	err error
}

// arrived compares what was sent with what the other side says it got.
func (m made) arrived(header string) error {
	if m.err != nil {
		return m.err
	}
	text := strings.TrimSuffix(strings.TrimPrefix(header, "sha-256=:"), ":")
	if digest, err := base64.StdEncoding.DecodeString(text); err == nil && len(digest) > 0 && string(digest) != string(m.res.Digest) {
		return source.Fatalf(source.ReasonChecksum, "checksum mismatch: sha256:%x was sent and sha256:%x arrived: delete the target and clone again", m.res.Digest, digest)
	}
	return nil
}

func (c *cloner) content(ctx context.Context, w io.Writer, offset int64) (stream.Result, error) {
	if c.disk == "" {
		return stream.PackDirectory(ctx, c.mount, w, c.progress)
	}
	return stream.CopyOut(ctx, c.disk, w, offset, c.progress)
}

// ask finds out how much the other side has of this content.
func (c *cloner) ask(ctx context.Context) (offset int64, done bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.url, nil)
	if err != nil {
		return 0, false, source.Fatalf(reasonInvalid, "%s cannot be used: %w", names.EnvUploadURL, err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, false, fmt.Errorf("ask the claim's upload server: %w", err)
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusConflict:
		return 0, true, nil
	case resp.StatusCode == http.StatusOK && c.disk != "" && resp.Header.Get(names.HeaderIdentity) == c.identity:
		offset, _ = strconv.ParseInt(resp.Header.Get(names.HeaderOffset), 10, 64)
	}
	return max(0, offset), false, nil
}

func (c *cloner) accepted(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusBadRequest:
		return source.Fatalf(reasonRefused, "the target refuses the content: %s", strings.TrimSpace(string(text)))
	}
	return fmt.Errorf("the claim's upload server answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
}
