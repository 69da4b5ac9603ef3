package upload

import (
	"encoding/hex"
	"net/http"

	"virtctl/internal/cdi/linger"
	"virtctl/internal/cdi/names"
)

// deadlinePassed is the contract's text.
const deadlinePassed = "Deadline Passed"

// Message is what the pod leaves behind for the controller.
func (r Result) Message() names.TerminationMessage {
	text, yes := names.MessageUploadComplete, true
	switch {
	case r.DeadlinePassed:
		text = deadlinePassed
		return names.TerminationMessage{Message: &text, DeadlinePassed: &yes}
	case r.Clone:
		text = names.MessageCloneComplete
	}
	msg := names.TerminationMessage{
		Message: &text, PreallocationApplied: &r.Preallocated, Length: r.SourceBytes,
		Format: string(r.Format), VirtualSize: max(0, r.VirtualSize),
	}
	if len(r.Digest) > 0 && !r.Clone {
		msg.Digest = "sha256:" + hex.EncodeToString(r.Digest)
	}
	return msg
}

// tell answers with the result as soon as there is one: whoever asks knows it up to a second before the kubelet has noticed the pod's end.
// Without a result the pod's end says why.
func (s *Server) tell(w http.ResponseWriter, r *http.Request) {
	if !s.proxied(r) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	select {
	case <-s.ended:
	case <-r.Context().Done():
		return
	}
	res, err := s.outcome()
	if err != nil || res.DeadlinePassed {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	text, err := res.Message().Encode()
	if err != nil {
		linger.Text(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}
