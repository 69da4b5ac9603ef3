package launcherpod

import (
	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/layout"
)

// podSecurity is what Pod Security "restricted" asks for, and one safe sysctl: the DHCP server listens on port 67 without a
// capability.
func podSecurity(l clusterconfig.Launcher) *corev1.PodSecurityContext {
	id, yes, onMismatch := int64(layout.UID), true, corev1.FSGroupChangeOnRootMismatch
	s := &corev1.PodSecurityContext{
		RunAsUser: &id, RunAsGroup: &id, FSGroup: &id, RunAsNonRoot: &yes,
		// A claim with many files would be walked at every start otherwise.
		FSGroupChangePolicy: &onMismatch,
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		Sysctls:             []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}},
	}
	if p := l.Seccomp; p != nil && p.LocalhostProfile != nil && !p.RuntimeDefaultProfile {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: p.LocalhostProfile}
	}
	if l.SELinuxType != "" {
		s.SELinuxOptions = &corev1.SELinuxOptions{Type: l.SELinuxType}
	}
	return s
}

func containerSecurity() *corev1.SecurityContext {
	no, yes, id := false, true, int64(layout.UID)
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no,
		RunAsNonRoot:             &yes,
		RunAsUser:                &id,
		RunAsGroup:               &id,
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}
