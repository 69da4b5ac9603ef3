package serving

import (
	"encoding/json"
	"net/http"

	"virtctl/internal/clusterconfig"
)

// Health answers /healthz: it tells which version of the cluster's configuration the program works with. Who changed the
// configuration can see there that the change has arrived.
func Health(config *clusterconfig.Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{ // the caller has gone; nobody to tell
			"apiserver":               map[string]string{"connectivity": "ok"},
			"config-resource-version": config.Version(),
		})
	})
}
