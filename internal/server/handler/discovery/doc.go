// Package discovery finds the launchers of this node's pods and connects to them.
//
// A launcher shows itself by a socket in its pod's emptyDir, which the kubelet keeps below its own directory. Finder waits for
// that socket with inotify; Connect opens it without trusting anything in there. Whose launcher it is follows from which pod's
// directory the socket lies in, never from what the launcher says.
package discovery
