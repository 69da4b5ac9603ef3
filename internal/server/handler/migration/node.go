package migration

import (
	"context"
	"crypto/tls"

	"k8s.io/apimachinery/pkg/types"
)

// Node is what a node needs to send guests away and to take them in.
type Node struct {
	// Context ends with the node agent; migrations are followed until then.
	Context context.Context //nolint:containedctx // migrations outlive the reconciliations that begin them
	// Address and Port are where Receiver is reached.
	Address  string
	Port     int
	Receiver *Receiver
	// Client is for connections to other nodes' receivers.
	Client *tls.Config
	// Changed is called with the launcher's pod when a migration has ended.
	Changed func(pod types.NamespacedName)
}
