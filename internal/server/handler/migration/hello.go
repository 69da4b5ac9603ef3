// Package migration is a node's part in live migrations: the tunnel between the virt-handlers of the two nodes, and the
// supervision of a running migration.
//
// The target's virt-handler serves one TLS port. The source's connects once for each stream; a connection begins with one line
// that says which migration and which stream it is for, and is from then on joined to a socket in the target's launcher pod.
package migration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// Stream names one of a migration's connections.
type Stream string

// The streams.
const (
	Libvirt Stream = "libvirt"
	Memory  Stream = "memory"
	NBD     Stream = "nbd"
)

// maxHello bounds the first line of a connection.
const maxHello = 512

// plainHello begins a connection that is not encrypted; a handshake begins otherwise.
const plainHello = '{'

// hello is the first line of a connection.
type hello struct {
	MigrationUID types.UID `json:"migrationUID"`
	Stream       Stream    `json:"stream"`
}

func (h hello) line() ([]byte, error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the first line: %w", err)
	}
	return append(raw, '\n'), nil
}

// readHello reads the first line. r must have a buffer of maxHello bytes.
func readHello(r *bufio.Reader) (hello, error) {
	raw, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return hello{}, fmt.Errorf("the first line is longer than %d bytes", maxHello)
	}
	if err != nil {
		return hello{}, fmt.Errorf("read the first line: %w", err)
	}
	var h hello
	if err := json.Unmarshal(raw, &h); err != nil {
		return hello{}, fmt.Errorf("decode the first line: %w", err)
	}
	if h.MigrationUID == "" {
		return hello{}, errors.New("the first line names no migration")
	}
	switch h.Stream {
	case Libvirt, Memory, NBD:
		return h, nil
	}
	return hello{}, fmt.Errorf("no stream is called %.32q", h.Stream)
}
