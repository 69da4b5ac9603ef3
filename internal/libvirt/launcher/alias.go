package launcher

import (
	"encoding/xml"
	"strings"
	"sync"
	"time"
)

// deviceAlias returns the name of the alias element directly below the document's root.
func deviceAlias(document string) string {
	var device struct {
		Alias struct {
			Name string `xml:"name,attr"`
		} `xml:"alias"`
	}
	if xml.Unmarshal([]byte(document), &device) != nil {
		return ""
	}
	return device.Alias.Name
}

// hasAlias tells whether a domain's document still has a device of that alias.
func hasAlias(document, alias string) bool {
	return hasElement(document, "alias", map[string]string{"name": alias})
}

// agentConnected tells whether the guest has opened its agent's channel.
func agentConnected(document string) bool {
	return hasElement(document, "target", map[string]string{"name": "org.qemu.guest_agent.0", "state": "connected"})
}

// pluggedMemory is how many bytes the guest uses of its memory device.
func pluggedMemory(document string) uint64 {
	var domain struct {
		Memory []struct {
			Current struct {
				Unit  string `xml:"unit,attr"`
				Value uint64 `xml:",chardata"`
			} `xml:"target>current"`
		} `xml:"devices>memory"`
	}
	if xml.Unmarshal([]byte(document), &domain) != nil {
		return 0
	}
	total := uint64(0)
	for _, m := range domain.Memory {
		switch m.Current.Unit {
		case "b", "bytes":
			total += m.Current.Value
		default: // what libvirt writes
			total += m.Current.Value << 10
		}
	}
	return total
}

// hasElement tells whether a document has an element with all these attributes.
func hasElement(document, name string, attributes map[string]string) bool {
	decoder := xml.NewDecoder(strings.NewReader(document))
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		element, ok := token.(xml.StartElement)
		if !ok || element.Name.Local != name {
			continue
		}
		found := 0
		for _, a := range element.Attr {
			if value, wanted := attributes[a.Name.Local]; wanted && value == a.Value {
				found++
			}
		}
		if found == len(attributes) {
			return true
		}
	}
}

// deadline runs one function later, at most one at a time.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
}

// arm replaces what was armed before; with no duration it only disarms.
func (d *deadline) arm(after time.Duration, fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if after > 0 {
		d.timer = time.AfterFunc(after, fn)
	}
}
