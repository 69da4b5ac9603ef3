package subresource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

func (s *Server) pause(w http.ResponseWriter, r *http.Request, vm target) error {
	return act(w, r, func(ctx context.Context) error {
		_, err := vm.client.Suspend(ctx)
		return err
	})
}

func (s *Server) unpause(w http.ResponseWriter, r *http.Request, vm target) error {
	return act(w, r, func(ctx context.Context) error {
		_, err := vm.client.Resume(ctx)
		return err
	})
}

func (s *Server) reset(w http.ResponseWriter, r *http.Request, vm target) error {
	return act(w, r, func(ctx context.Context) error {
		_, err := vm.client.Reset(ctx)
		return err
	})
}

func (s *Server) softReboot(w http.ResponseWriter, r *http.Request, vm target) error {
	return act(w, r, vm.client.Reboot)
}

func (s *Server) freeze(w http.ResponseWriter, r *http.Request, vm target) error {
	var body v1.FreezeUnfreezeTimeout
	if err := readBody(r, &body); err != nil {
		return err
	}
	request := wire.FreezeRequest{}
	if t := body.UnfreezeTimeout; t != nil {
		if t.Duration < 0 {
			return &statusError{http.StatusBadRequest, "unfreezeTimeout must not be negative"}
		}
		request.TimeoutSeconds = int64(t.Seconds())
	}
	return act(w, r, func(ctx context.Context) error { return vm.client.Freeze(ctx, request) })
}

func (s *Server) unfreeze(w http.ResponseWriter, r *http.Request, vm target) error {
	return act(w, r, vm.client.Thaw)
}

// act runs a call that answers with nothing but success.
func act(w http.ResponseWriter, r *http.Request, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	if err := call(ctx); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// readBody reads an optional JSON body.
func readBody(r *http.Request, into any) error {
	err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(into)
	if err != nil && !errors.Is(err, io.EOF) {
		return &statusError{http.StatusBadRequest, fmt.Sprintf("cannot read the request's body: %v", err)}
	}
	return nil
}
