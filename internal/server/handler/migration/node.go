package migration

import (
	"context"
	"crypto/tls"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Node is what a node needs to send guests away and to take them in.
type Node struct {
	// Context ends with the process, later than that of Start; migrations are followed until then.
	Context context.Context //nolint:containedctx // migrations outlive the reconciliations that begin them
	// Address and Port are where Receiver is reached.
	Address  string
	Port     int
	Receiver *Receiver
	// Client is for connections to other nodes' receivers.
	Client *tls.Config
	// Changed is called with the launcher's pod when a migration has ended.
	Changed func(pod types.NamespacedName)

	work sync.WaitGroup
}

// Working notes that a migration away has begun; what it returns is called when it is over.
func (n *Node) Working() (done func()) {
	n.work.Add(1)
	return n.work.Done
}

// Start waits for the migrations under way after ctx has ended: they do not survive the tunnel that they go through.
func (n *Node) Start(ctx context.Context) error {
	<-ctx.Done()
	n.work.Wait()
	return nil
}
