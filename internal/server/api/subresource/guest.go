package subresource

import (
	"io"
	"net/http"

	v1 "kubevirt.io/api/core/v1"
)

// Bounds of what a guest's agent, or a guest's screen, may make us pass on.
const (
	maxAgentAnswer = 4 << 20
	maxScreenshot  = 64 << 20
)

// guestInfo passes on what the guest's agent tells.
func (s *Server) guestInfo(verb string) func(*request) error {
	return func(r *request) error {
		vmi, err := s.vmi(r)
		if err != nil {
			return err
		}
		for _, c := range []check{running, agentConnected} {
			if err := c(vmi); err != nil {
				return err
			}
		}
		return s.copyAnswer(r, vmi, verb, "application/json", maxAgentAnswer)
	}
}

func (s *Server) screenshot(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if err := graphical(vmi); err != nil {
		return err
	}
	defer s.Sessions.Open("screenshot", vmi.Namespace, vmi.Name)()
	return s.copyAnswer(r, vmi, "vnc/screenshot", "image/png", maxScreenshot)
}

func (s *Server) copyAnswer(r *request, vmi *v1.VirtualMachineInstance, verb, contentType string, limit int64) error {
	answer, err := s.Node.Get(r.Context(), vmi, verb)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	r.ResponseWriter.Header().Set("Content-Type", contentType)
	r.WriteHeader(http.StatusOK)
	if _, err := io.Copy(r.ResponseWriter, io.LimitReader(answer.Body, limit)); err != nil {
		// The answer has begun, so nobody can be told but the log.
		s.Log.Warn("answer of the node agent broke off", "verb", verb, "namespace", vmi.Namespace, "name", vmi.Name, "error", err)
	}
	return nil
}
