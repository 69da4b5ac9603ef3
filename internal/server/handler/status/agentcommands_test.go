package status

import (
	"slices"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// An agent that cannot answer must not be taken for one that has nothing to say.
func TestLackingCommands(t *testing.T) {
	var all []wire.GuestCommand
	for _, name := range basicCommands() {
		all = append(all, wire.GuestCommand{Name: name, Enabled: true})
	}
	if got := lacking(all); got != nil {
		t.Errorf("a whole agent lacks %v", got)
	}
	all[3].Enabled = false
	if got := lacking(all[:9]); !slices.Equal(got, []string{"guest-shutdown", "guest-get-osinfo"}) {
		t.Errorf("lacks %v", got)
	}
	if got := lacking(nil); got != nil {
		t.Errorf("an agent that lists nothing lacks %v", got)
	}
}
