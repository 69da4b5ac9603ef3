package ingress

import (
	"flag"
	"log/slog"
	"testing"

	"k8s.io/klog/v2"
)

// spec.config.logVerbosity of a CDI must show what our servers say for whoever looks for a fault, and hide it from everybody else.
func TestVerbosityCounts(t *testing.T) {
	for verbosity, debugging := range map[string]bool{"0": false, "2": false, "4": true, "6": true} {
		flags := flag.NewFlagSet("klog", flag.ContinueOnError)
		klog.InitFlags(flags)
		if err := flags.Set("v", verbosity); err != nil {
			t.Fatal(err)
		}
		if got := level(flags); (got <= slog.LevelDebug) != debugging || got > slog.LevelInfo {
			t.Errorf("at -v=%s: %s", verbosity, got)
		}
	}
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	if err := flags.Set("v", "0"); err != nil {
		t.Fatal(err)
	}
}
