package upload

import (
	"bytes"
	"net/http"
	"testing"

	"virtctl/internal/cdi/direct"
	"virtctl/internal/cdi/names"
)

// guest is an HTTP client that comes directly.
func (g *target) guest(own *direct.Identity, server string) *http.Client {
	transport := &http.Transport{TLSClientConfig: own.Config(server)}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func identity(t *testing.T) *direct.Identity {
	t.Helper()
	own, err := direct.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func TestInvitedClientsUpload(t *testing.T) {
	g := newTarget(t).start()
	own := identity(t)
	r := g.send(http.MethodPost, names.PathUploadDirect, nil, names.HeaderClientKey, own.Fingerprint)
	if r.StatusCode != http.StatusNoContent || "https://"+r.Header.Get(names.HeaderAddress) != g.url {
		t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
	}
	client := g.guest(own, r.Header.Get(names.HeaderServerKey))
	// Guests invite nobody, and find nothing but the way to upload.
	req, _ := http.NewRequest(http.MethodPost, g.url+names.PathUploadDirect, nil)
	req.Header.Set(names.HeaderClientKey, identity(t).Fingerprint)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a guest that invites: %s", resp.Status)
	}
	data := bytes.Repeat([]byte("a disk, "), 1<<18)
	resp, err = client.Post(g.url+names.PathUpload, "application/octet-stream", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get(names.HeaderDigest) != digest(data) {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	g.mustEnd()
	g.disk(data)
}

func TestNobodyElseIsLetIn(t *testing.T) {
	g := newTarget(t).start()
	server, err := g.config.TLS.fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	invite := func(c *http.Client) (*http.Response, error) {
		req, _ := http.NewRequest(http.MethodPost, g.url+names.PathUploadDirect, nil)
		req.Header.Set(names.HeaderClientKey, identity(t).Fingerprint)
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	for name, c := range map[string]*http.Client{"no certificate": g.client("", nil), "another name": g.client("somebody", g.ca)} {
		if resp, err := invite(c); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v %v", name, resp, err)
		}
	}
	if resp, err := g.guest(identity(t), server).Get(g.url + names.PathHealth); err == nil {
		resp.Body.Close()
		t.Errorf("a key that was not named: %s", resp.Status)
	}
	if r := g.send(http.MethodPost, names.PathUploadDirect, nil, names.HeaderClientKey, "sha256/AAAA"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("no fingerprint: %s", r.Status)
	}
	if r := g.send(http.MethodHead, names.PathUploadDirect, nil, names.HeaderClientKey, identity(t).Fingerprint); r.StatusCode == http.StatusNoContent {
		t.Errorf("HEAD: %s", r.Status)
	}
}
