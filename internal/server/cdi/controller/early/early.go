// Package early hears from upload servers themselves that they are done. The kubelet says so as well, but looks at its containers only once a
// second, and somebody waits for the disk.
package early

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/cdi/dial"
	"virtctl/internal/cdi/names"
)

// connecting is how long a server may take to answer a connection.
const connecting = 5 * time.Second

// atOnce bounds how many servers are listened to. The kubelet speaks for those beyond it.
const atOnce = 256

// Ear listens to upload servers, one connection to each.
type Ear struct {
	work  context.Context
	heard chan event.GenericEvent

	mu   sync.Mutex
	asks map[client.ObjectKey]*ask
}

// ask is one claim's.
type ask struct {
	run    string
	result *names.TerminationMessage
	hangUp context.CancelFunc
}

// Server is an upload server's pod: where it is, and how each side knows the other.
type Server struct {
	// Run names one life of a server: a pod, and how often it was started anew.
	Run     string
	Address string
	TLS     *tls.Config
}

// New makes an Ear that listens as long as ctx lasts.
func New(ctx context.Context) *Ear {
	return &Ear{work: ctx, heard: make(chan event.GenericEvent, atOnce), asks: map[client.ObjectKey]*ask{}}
}

// Source has a controller reconcile the claims whose servers have said something.
func (e *Ear) Source() source.Source {
	return source.Channel(e.heard, &handler.EnqueueRequestForObject{})
}

// Of gives what the server of a claim has said.
func (e *Ear) Of(claim client.Object, run string) (names.TerminationMessage, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.asks[client.ObjectKeyFromObject(claim)]; a != nil && a.run == run && a.result != nil {
		return *a.result, true
	}
	return names.TerminationMessage{}, false
}

// Listens tells that the server of a claim needs no other question.
func (e *Ear) Listens(claim client.Object, run string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.asks[client.ObjectKeyFromObject(claim)]
	return a != nil && a.run == run || a == nil && len(e.asks) >= atOnce
}

// Listen asks the server of a claim and returns at once. The claim is reconciled when the server has answered.
func (e *Ear) Listen(claim client.Object, s Server) {
	key := client.ObjectKeyFromObject(claim)
	e.Forget(key)
	ctx, cancel := context.WithCancel(e.work)
	a := &ask{run: s.Run, hangUp: cancel}
	e.mu.Lock()
	e.asks[key] = a
	e.mu.Unlock()
	go func() {
		defer cancel()
		result, err := fetch(ctx, s)
		if err != nil {
			return // The kubelet tells the rest. This run is not asked again.
		}
		e.mu.Lock()
		a.result = &result
		e.mu.Unlock()
		select {
		case e.heard <- event.GenericEvent{Object: claim}:
		case <-ctx.Done():
		}
	}()
}

// Forget is for a claim whose server is gone.
func (e *Ear) Forget(claim client.ObjectKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.asks[claim]; a != nil {
		a.hangUp()
		delete(e.asks, claim)
	}
}

// fetch waits for a server's result.
func fetch(ctx context.Context, s Server) (names.TerminationMessage, error) {
	none := names.TerminationMessage{}
	transport := &http.Transport{TLSClientConfig: s.TLS, DialContext: dial.Dialer(connecting).DialContext, TLSHandshakeTimeout: connecting, DisableKeepAlives: true}
	c := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Address+names.PathUploadResult, nil)
	if err != nil {
		return none, fmt.Errorf("ask %s for its result: %w", s.Address, err)
	}
	response, err := c.Do(request)
	if err != nil {
		return none, fmt.Errorf("ask %s for its result: %w", s.Address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return none, fmt.Errorf("ask %s for its result: %s", s.Address, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, names.MaxTermination))
	if err != nil {
		return none, fmt.Errorf("read the result of %s: %w", s.Address, err)
	}
	return names.ParseTermination(string(text)), nil
}
