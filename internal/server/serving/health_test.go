package serving

import (
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

func TestHealthTellsTheConfigurationsVersion(t *testing.T) {
	config := &clusterconfig.Source{}
	for version, want := range map[string]string{
		"":   `{"apiserver":{"connectivity":"ok"},"config-resource-version":""}`,
		"17": `{"apiserver":{"connectivity":"ok"},"config-resource-version":"17"}`,
	} {
		if version != "" {
			config = clusterconfig.Fixed(&v1.KubeVirt{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}})
		}
		w := httptest.NewRecorder()
		Health(config).ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if got := strings.TrimSpace(w.Body.String()); got != want || w.Code != 200 {
			t.Errorf("%d %s, want %s", w.Code, got, want)
		}
		config = &clusterconfig.Source{}
	}
}
