// Package progress reads how far a worker is from its metrics.
package progress

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/cdi/names"
)

// Interval is how often a running worker is asked.
const Interval = 2 * time.Second

// Limits of what is read: a worker's pod belongs to its user.
const (
	timeout  = time.Second
	maxBytes = 1 << 20
	maxLine  = 16 << 10
)

// Scraper asks workers.
type Scraper struct {
	client http.Client
	// address turns a pod into host:port; tests have their own.
	address func(*corev1.Pod) string
}

// New gives a Scraper.
func New() *Scraper {
	return &Scraper{
		client: http.Client{Timeout: timeout, Transport: &http.Transport{
			// The certificate is of the worker's own making; what it says only moves a bar.
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
			Proxy:             nil,
		}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		address: func(pod *corev1.Pod) string {
			return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(names.PortMetrics))
		},
	}
}

// Of gives a worker's progress in percent. It is not known when the pod does not answer.
func (s *Scraper) Of(ctx context.Context, pod *corev1.Pod, owner string) (percent float64, known bool) {
	if s == nil || pod == nil || pod.Status.PodIP == "" || pod.Status.Phase != corev1.PodRunning {
		return 0, false
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.address(pod)+names.PathMetrics, nil)
	if err != nil {
		return 0, false
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, false
	}
	return parse(io.LimitReader(response.Body, maxBytes), owner)
}

// Text is how a DataVolume shows it.
func Text(percent float64) string { return fmt.Sprintf("%.2f%%", percent) }

// parse looks for one of the two metrics with the owner's label.
func parse(r io.Reader, owner string) (float64, bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	label := names.MetricOwnerLabel + `="` + owner + `"`
	for lines.Scan() {
		name, rest, found := strings.Cut(lines.Text(), "{")
		if !found || name != names.MetricImportProgress && name != names.MetricCloneProgress {
			continue
		}
		labels, value, found := strings.Cut(rest, "}")
		if !found || !strings.Contains(labels, label) {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err == nil && f >= 0 && f <= 100 {
			return f, true
		}
	}
	return 0, false
}
