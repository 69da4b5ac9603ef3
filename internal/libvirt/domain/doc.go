// Package domain turns a VirtualMachineInstance into the libvirt domain that runs it.
//
// It is pure: everything it needs to know about the node, the pod and the cluster comes in as values, and the same input always
// gives the same document. Disks says what the launcher must prepare, Convert makes the domain from what the launcher found,
// Retarget makes a migration target's document from the source's. What cannot be honoured is an error that names the field;
// nothing is dropped silently.
package domain
