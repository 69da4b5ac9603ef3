// Package writer is internal/server/writer under the name it had when only virt-controller used it.
package writer

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/writer"
)

// Writer writes objects of one kind.
type Writer = writer.Writer

// New gives a Writer that writes with c.
func New(c client.Client) *Writer { return writer.New(c) }
