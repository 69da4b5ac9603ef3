package imageupload

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"virtctl/internal/cdi/dial"
	"virtctl/internal/cdi/direct"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/uploadapi"
	"virtctl/internal/client"
)

const (
	// near is how long it may take to connect to an upload server's pod: who is further away gains nothing by it.
	near = 500 * time.Millisecond
	// greeting is how long a pod that was reached may take to answer.
	greeting = 3 * time.Second
)

// shortcut is the way straight to the upload server, without anybody between; nil where there is none. A server that was replaced is another
// one, so it is looked for again before each try, but not any more when it did not do twice.
func (s *sender) shortcut(ctx context.Context) *door {
	if !s.direct || s.door.fetch != nil || s.stumbled > 1 {
		return nil
	}
	d, err := s.invitation(ctx)
	if err == nil {
		err = d.answers(ctx, greeting, http.MethodHead, d.prefix+"upload")
	}
	if err != nil {
		s.direct = false
		return nil
	}
	if s.stumbled == 0 {
		s.say("the upload server can be reached from here: sending straight to %s\n", d.address)
	}
	return d
}

// invitation asks the upload server, by the way that is there, to let this client in.
func (s *sender) invitation(ctx context.Context) (*door, error) {
	own, err := direct.NewIdentity()
	if err != nil {
		return nil, err
	}
	req, err := s.door.request(ctx, http.MethodPost, uploadapi.Direct)
	if err != nil {
		return nil, err
	}
	req.Header.Set(names.HeaderClientKey, own.Fingerprint)
	resp, err := s.door.http.Do(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return nil, fmt.Errorf("the upload server answers %s", resp.Status)
	}
	// An address of the cluster, not a name that would have to be looked up elsewhere.
	address, err := netip.ParseAddrPort(resp.Header.Get(names.HeaderAddress))
	if err != nil {
		return nil, fmt.Errorf("the upload server's address: %w", err)
	}
	transport := client.BulkTransport(own.Config(resp.Header.Get(names.HeaderServerKey)))
	transport.Proxy, transport.DialContext = nil, dial.Dialer(near).DialContext
	return &door{address: address.String(), prefix: "https://" + address.String() + "/v1beta1/", straight: true, http: &http.Client{Transport: transport}}, nil
}
