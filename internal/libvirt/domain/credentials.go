package domain

import (
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// Credentials are the access credentials that reach the guest through its agent. Those of cloud-init are on its disks.
func Credentials(vmi *v1.VirtualMachineInstance) []wire.Credential {
	var list []wire.Credential
	for i := range vmi.Spec.AccessCredentials {
		c := &vmi.Spec.AccessCredentials[i]
		if keys := c.SSHPublicKey; keys != nil && keys.Source.Secret != nil && keys.PropagationMethod.QemuGuestAgent != nil {
			if users := keys.PropagationMethod.QemuGuestAgent.Users; len(users) > 0 {
				list = append(list, wire.Credential{Dir: layout.AccessCredential(keys.Source.Secret.SecretName), Users: users})
			}
		}
		if p := c.UserPassword; p != nil && p.Source.Secret != nil && p.PropagationMethod.QemuGuestAgent != nil {
			list = append(list, wire.Credential{Dir: layout.AccessCredential(p.Source.Secret.SecretName)})
		}
	}
	return list
}
