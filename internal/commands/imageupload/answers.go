package imageupload

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"virtctl/internal/commands/problem"
)

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
func (d *door) broken(err error) error {
	text := "the connection to " + d.address + " broke: " + short(err)
	if strings.Contains(text, "x509:") && d.fetch != nil {
		text += "; --insecure does without checking the certificate"
	}
	return problem.New(problem.Unreachable, "%s", text)
}

// refusal tells what the server's answer means.
func (d *door) refusal(code int, text string) error {
	if message := statusMessage(text); message != "" {
		text = message
	}
	if text == "" {
		text = http.StatusText(code)
	}
	err := fmt.Errorf("unexpected return value %d, %s", code, text)
	switch code {
	case http.StatusUnauthorized:
		if d.fetch == nil && !d.straight {
			return problem.New(problem.Forbidden, "authentication failed: %w; log in again", err)
		}
		return &againError{err: fmt.Errorf("authentication failed: %w", err), token: d.fetch != nil}
	case http.StatusForbidden:
		return problem.New(problem.Forbidden, "%w; the permission to create uploads/proxy.upload.cdi.kubevirt.io is part of the ClusterRoles admin and edit", err)
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return problem.New(problem.Invalid, "the image was refused: %w", err)
	case http.StatusInsufficientStorage:
		return problem.New(problem.Invalid, "the volume is full: %w", err)
	}
	return &againError{err: err}
}
