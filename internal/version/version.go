// Package version says which build this is and which public API it speaks.
package version

import (
	"runtime"
	"runtime/debug"
)

// These are set by the linker (-X); the defaults are what a plain `go build` reports.
var (
	version   = "v0.1.0-dev"
	commit    = ""
	buildDate = ""
	// registry and tag name the images that belong to this build.
	registry = "localhost/virtctl"
	tag      = "dev"
)

// API is the KubeVirt release whose public API this build speaks.
const API = "v1.9.0"

// StorageAPI is the CDI release whose public API this build speaks.
const StorageAPI = "v1.66.0"

// Storage is what CDI's components say their version is.
func Storage() string { return StorageAPI + "+virtctl." + version[1:] }

// Info has the shape of the public version endpoint (upstream clients decode it).
type Info struct {
	GitVersion   string `json:"gitVersion"`
	GitCommit    string `json:"gitCommit"`
	GitTreeState string `json:"gitTreeState"`
	BuildDate    string `json:"buildDate"`
	GoVersion    string `json:"goVersion"`
	Compiler     string `json:"compiler"`
	Platform     string `json:"platform"`
}

// Version is this build's own version, for example v0.1.0.
func Version() string { return version }

// Registry is where this build's images are by default.
func Registry() string { return registry }

// Tag is the tag of this build's images.
func Tag() string { return tag }

// Get describes this build. GitVersion starts with the API's version, so that clients which compare major and minor versions
// judge compatibility rightly, and carries our own version as build metadata.
func Get() Info {
	return Info{
		GitVersion: API + "+virtctl." + version[1:], GitCommit: revision(), GitTreeState: "clean", BuildDate: buildDate,
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func revision() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
