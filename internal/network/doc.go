// Package network joins a guest to its pod's network.
//
// Inspect reads what a pod's network namespace looks like, MakePlan (pure) decides what to make of it for a
// VirtualMachineInstance, Apply makes it so. Apply may be called again at any time and ends in the same state, also when an
// earlier call was cut off in the middle.
//
// Everything is made in the pod's network namespace only. For an interface on the pod link eth0:
//
//	masquerade: eth0 keeps its address; bridge k6t-eth0 is the guest's gateway; nftables translates both ways
//	bridge:     eth0 becomes a port of bridge k6t-eth0, the guest takes over its addresses and its MAC by DHCP, and the link
//	            ip-eth0 (attached to nothing) remembers them
//
// and in both cases tap0 is the guest's cable, owned by the launcher's user.
package network
