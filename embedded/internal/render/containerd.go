package render

import (
	"bytes"
	"fmt"
	"text/template"
)

// Containerd are the values of containerd's configuration.
type Containerd struct {
	// Runc is the path of runc, CNIBinDirs those of the network plugins.
	Runc       string
	CNIBinDirs []string
	// PauseImage is the sandbox image; it is imported, never pulled.
	PauseImage string
	// NoOOMScore: without CAP_SYS_RESOURCE a container's score cannot be set below this process's own.
	NoOOMScore bool
}

const containerdTemplate = `version = 3
root = "` + ContainerdRoot + `"
state = "` + ContainerdState + `"
oom_score = 0
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
  "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.restart",
]

[grpc]
  address = "` + ContainerdSocket + `"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  max_concurrent_downloads = 3
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = {{ printf "%q" .PauseImage }}

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = {{ .NoOOMScore }}
  device_ownership_from_security_context = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {{ printf "%q" .Runc }}
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{{ range $i, $d := .CNIBinDirs }}{{ if $i }}, {{ end }}{{ printf "%q" $d }}{{ end }}]
    conf_dir = "` + CNIConfDir + `"
    use_internal_loopback = true

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
`

// ContainerdConfig renders containerd's configuration (version 3).
func ContainerdConfig(v Containerd) ([]byte, error) {
	t, err := template.New("containerd").Parse(containerdTemplate)
	if err != nil {
		return nil, fmt.Errorf("render containerd configuration: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("render containerd configuration: %w", err)
	}
	return b.Bytes(), nil
}
