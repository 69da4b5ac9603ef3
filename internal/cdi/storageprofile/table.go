// Package storageprofile knows what the storage of known provisioners can do: which access and volume modes suit a virtual
// machine's disk best, how to clone it, and how small a volume may be. It is pure.
package storageprofile

import (
	_ "embed"
	"strings"
)

//go:embed table.txt
var table string

// row is one line of the table.
type row struct {
	sets, clone, cron, minimum string
	onceForCron                bool
}

// lookup finds a provisioner, or a variant of one.
func lookup(key string) (row, bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 || f[0] != key {
			continue
		}
		for i := range f {
			if f[i] == "-" {
				f[i] = ""
			}
		}
		return row{f[1], f[2], f[3], f[4], len(f) > 5 && f[5] == "rwo"}, true
	}
	return row{}, false
}
