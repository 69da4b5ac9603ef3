package domain

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/libvirt/wire"
)

// Keys that cloud-init brings must not come a second time through the agent, where they would replace others.
func TestCredentials(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	if err := yaml.Unmarshal([]byte(`spec:
  accessCredentials:
  - sshPublicKey: {source: {secret: {secretName: keys}}, propagationMethod: {qemuGuestAgent: {users: [a, b]}}}
  - sshPublicKey: {source: {secret: {secretName: cloud}}, propagationMethod: {noCloud: {}}}
  - sshPublicKey: {source: {secret: {secretName: drive}}, propagationMethod: {configDrive: {}}}
  - sshPublicKey: {source: {secret: {secretName: nobody}}, propagationMethod: {qemuGuestAgent: {users: []}}}
  - sshPublicKey: {source: {}, propagationMethod: {qemuGuestAgent: {users: [a]}}}
  - userPassword: {source: {secret: {secretName: words}}, propagationMethod: {qemuGuestAgent: {}}}
  - {}
`), vmi); err != nil {
		t.Fatal(err)
	}
	want := []wire.Credential{
		{Dir: "/var/run/kubevirt-private/access-credentials/keys", Users: []string{"a", "b"}},
		{Dir: "/var/run/kubevirt-private/access-credentials/words"},
	}
	if d := cmp.Diff(want, Credentials(vmi)); d != "" {
		t.Error(d)
	}
}
