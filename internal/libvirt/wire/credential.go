package wire

// Credential is a Secret in the pod that users of the guest get through the guest agent.
type Credential struct {
	// Dir is where the Secret is mounted.
	Dir string `json:"dir"`
	// Users get the SSH public keys in it, and lose all others. Without users every file of it is the password of the user it is
	// named after.
	Users []string `json:"users,omitempty"`
}

// CredentialsState tells whether the guest's users have what the Secrets say.
type CredentialsState struct {
	Synchronized bool `json:"synchronized,omitempty"`
	// Reason is one word, Message says more; both empty when Synchronized. Bounded; never with a password in it.
	Reason  CredentialsReason `json:"reason,omitempty"`
	Message string            `json:"message,omitempty"`
}

// CredentialsReason is why the guest's users do not have what the Secrets say.
type CredentialsReason string

const (
	// CredentialsNoAgent: the guest agent is not there.
	CredentialsNoAgent CredentialsReason = "GuestAgentNotConnected"
	// CredentialsRefused: the guest agent could not do it.
	CredentialsRefused CredentialsReason = "GuestAgentRefused"
	// CredentialsUnreadable: the Secrets cannot be read or hold what cannot be used.
	CredentialsUnreadable CredentialsReason = "SecretUnusable"
)
