package launcher

import "testing"

// A guest's memory in the status is what it started with and this.
func TestPluggedMemory(t *testing.T) {
	for doc, want := range map[string]uint64{
		`<domain><devices><memory model='virtio-mem'><target><size unit='KiB'>2097152</size><requested unit='KiB'>524288</requested>` +
			`<current unit='KiB'>1024</current></target></memory></devices></domain>`: 1 << 20,
		`<domain><devices><memory><target><current unit='b'>7</current></target></memory></devices></domain>`: 7,
		`<domain><memory unit='KiB'>131072</memory><devices/></domain>`:                                       0,
		`no document`: 0,
	} {
		if got := pluggedMemory(doc); got != want {
			t.Errorf("%s: %d, want %d", doc, got, want)
		}
	}
}
