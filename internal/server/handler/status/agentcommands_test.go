package status

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// An agent that cannot answer must not be taken for one that has nothing to say.
func TestLackingCommands(t *testing.T) {
	var all []wire.GuestCommand
	for _, name := range basicCommands() {
		all = append(all, wire.GuestCommand{Name: name, Enabled: true})
	}
	if got := lacking(all, basicCommands()); got != nil {
		t.Errorf("a whole agent lacks %v", got)
	}
	all[3].Enabled = false
	if got := lacking(all[:9], basicCommands()); !slices.Equal(got, []string{"guest-shutdown", "guest-get-osinfo"}) {
		t.Errorf("lacks %v", got)
	}
	if got := lacking(nil, basicCommands()); got != nil {
		t.Errorf("an agent that lists nothing lacks %v", got)
	}
}

func withCredentials(vmi *v1.VirtualMachineInstance) {
	secret := &v1.AccessCredentialSecretSource{SecretName: "s"}
	vmi.Spec.AccessCredentials = []v1.AccessCredential{
		{SSHPublicKey: &v1.SSHPublicKeyAccessCredential{
			Source: v1.SSHPublicKeyAccessCredentialSource{Secret: secret},
			PropagationMethod: v1.SSHPublicKeyAccessCredentialPropagationMethod{
				QemuGuestAgent: &v1.QemuGuestAgentSSHPublicKeyAccessCredentialPropagation{Users: []string{"me"}},
			},
		}},
		{UserPassword: &v1.UserPasswordAccessCredential{
			Source: v1.UserPasswordAccessCredentialSource{Secret: secret},
			PropagationMethod: v1.UserPasswordAccessCredentialPropagationMethod{
				QemuGuestAgent: &v1.QemuGuestAgentUserPasswordAccessCredentialPropagation{},
			},
		}},
	}
}

// A guest whose agent may not take credentials is told apart from one that has not come yet.
func TestCredentialsNeedTheirCommands(t *testing.T) {
	var all []wire.GuestCommand
	for _, name := range append(basicCommands(), "guest-ssh-add-authorized-keys", "guest-set-user-password") {
		all = append(all, wire.GuestCommand{Name: name, Enabled: true})
	}
	for name, c := range map[string]struct {
		commands []wire.GuestCommand
		change   func(*v1.VirtualMachineInstance)
		message  string
	}{
		"all":                 {all, withCredentials, ""},
		"no password":         {all[:len(all)-1], withCredentials, "required password commands: guest-set-user-password"},
		"no keys":             {all[:len(all)-2], withCredentials, "required public key commands: guest-ssh-add-authorized-keys, guest-set"},
		"nothing is asked of": {all[:len(all)-2], nil, ""},
		"nothing basic":       {all[1:], withCredentials, "required basic commands: guest-ping"},
	} {
		vmi, status := vmiWith(c.change), &v1.VirtualMachineInstanceStatus{}
		o := observed(wire.StateRunning, wire.ReasonBooted)
		o.Agent, o.Guest = true, &wire.GuestInfo{Commands: c.commands}
		Apply(vmi, status, o)
		got := find(status, v1.VirtualMachineInstanceUnsupportedAgent)
		if (got != nil) != (c.message != "") || got != nil && !strings.Contains(got.Message, c.message) {
			t.Errorf("%s: %+v, want %q", name, got, c.message)
		}
	}
}

func TestCredentialsCondition(t *testing.T) {
	status := &v1.VirtualMachineInstanceStatus{}
	step := func(state *wire.CredentialsState, want corev1.ConditionStatus, reason string) {
		t.Helper()
		o := observed(wire.StateRunning, wire.ReasonBooted)
		o.State.Credentials = state
		Apply(vmiWith(withCredentials), status, o)
		c := find(status, v1.VirtualMachineInstanceAccessCredentialsSynchronized)
		switch {
		case want == "" && c != nil:
			t.Errorf("%+v though nothing is known", c)
		case want != "" && (c == nil || c.Status != want || c.Reason != reason || len(c.Message) > maxMessage+4):
			t.Errorf("%+v, want %s %s", c, want, reason)
		}
	}
	step(nil, "", "")
	step(&wire.CredentialsState{Reason: wire.CredentialsRefused, Message: strings.Repeat("no such user ", 1000)}, corev1.ConditionFalse, "GuestAgentRefused")
	step(&wire.CredentialsState{Reason: "<script>"}, corev1.ConditionFalse, "Unknown")
	step(&wire.CredentialsState{Synchronized: true}, corev1.ConditionTrue, "")
	step(nil, corev1.ConditionTrue, "") // a guest that has come from another node: its agent has not been asked here yet
}
