package metrics

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"virtctl/internal/cdi/names"
)

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := NewProgress(names.MetricImportProgress, `uid "1"`)
	address, err := p.Serve(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Set(1, 0)
	p.Set(1, 4)
	p.Set(1, 8)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + address.String() + names.PathMetrics)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	if want := "\n" + `kubevirt_cdi_import_progress_total{ownerUID="uid \"1\""} 25` + "\n"; !strings.HasSuffix(string(raw), want) {
		t.Fatalf("%s", raw)
	}
}
