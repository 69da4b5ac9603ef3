package migration

import (
	"context"
	"crypto/tls"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/server/serving"
)

// Node is what a node needs to send guests away and to take them in.
type Node struct {
	// Context ends with the process; migrations are followed until then.
	Context context.Context //nolint:containedctx // migrations outlive the reconciliations that begin them
	// Address and Port are where Receiver is reached.
	Address  string
	Port     int
	Receiver *Receiver
	// Client is for connections to other nodes' receivers.
	Client *tls.Config
	// Changed is called with the launcher's pod when a migration has ended.
	Changed func(pod types.NamespacedName)

	mu       sync.Mutex
	ending   bool
	underway serving.Tracker
}

// Take has the node take part in one more migration; done is called when that is over. It refuses once the node is told to end: its
// next virt-handler can take part.
func (n *Node) Take() (done func(), ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ending {
		return nil, false
	}
	return n.underway.Add(), true
}

// Finish takes no more migrations and waits for those under way: they do not survive the tunnel that they go through. It tells how
// many are left when ctx ends.
func (n *Node) Finish(ctx context.Context) (left int) {
	n.mu.Lock()
	n.ending = true
	n.mu.Unlock()
	return n.underway.Wait(ctx)
}
