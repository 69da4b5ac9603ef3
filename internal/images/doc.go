// Package images puts container images together, reads them and pushes them, without a container engine.
//
// An image is a list of layers (each packed once by PackLayer from files or a directory) and a small configuration.
// Build writes an OCI image layout as one tar, which `ctr images import`, containerd's client, CRI-O, podman, skopeo and
// Docker (25 or newer) load. The same inputs give the same bytes: entries are sorted, every timestamp is the one in the
// Spec, owners are kept as numbers and nothing of this machine (user names, device numbers, access times) is recorded.
//
// Read lists what is in such a tar and trusts none of it: sizes are bounded, names are never used as paths and every
// blob is checked against its digest. Push sends the images to a registry.
package images
