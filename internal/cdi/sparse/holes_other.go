//go:build !linux && !darwin

package sparse

import "os"

// nextData knows of no holes here: zeros are found by reading.
func nextData(_ *os.File, off, size int64) (from, to int64) { return off, size }
