// Package controller is the role virt-controller: it turns VirtualMachines into VirtualMachineInstances and those into
// launcher pods, and keeps their status true.
//
//	vm           run strategies, requests, back-off, printable status
//	vmi          launcher pods, phases up to Scheduling and after a lost pod, conditions about the pod
//	node         nodes whose virt-handler has gone silent
//	replicaset   VirtualMachineInstanceReplicaSet
//	launcherpod  VMI to pod, pure
//	writer       one write per real change, never from an old copy
//	index        how objects are found in the cache
package controller
