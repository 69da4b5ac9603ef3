package vm

import (
	"slices"
	"strings"

	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/create/params"
)

// accessCredentials reads --access-cred.
func (b *builder) accessCredentials() error {
	for _, text := range b.opts.CloudInit.Credentials {
		credential, err := b.credential(text)
		if err != nil {
			return err
		}
		b.spec.AccessCredentials = append(b.spec.AccessCredentials, credential)
	}
	return nil
}

func (b *builder) credential(text string) (kubevirtv1.AccessCredential, error) {
	var credential kubevirtv1.AccessCredential
	values, err := params.Parse("access-cred", text, "type", "src", "method", "user")
	if err != nil {
		return credential, err
	}
	source, err := values.Need("src")
	if err != nil {
		return credential, err
	}
	namespace, secret, err := params.SplitName(source)
	if err != nil {
		return credential, values.Errorf("src invalid: %w", err)
	}
	if namespace != "" {
		return credential, values.Errorf("not allowed to specify namespace of secret '%s'", secret)
	}
	switch kind := strings.ToLower(values.Get("type")); kind {
	case "", "ssh":
		return b.sshCredential(values, secret)
	case "password":
		if method := strings.ToLower(values.Get("method")); method != "" && method != "ga" {
			return credential, values.Errorf("invalid method %q for a password, supported values are: ga", method)
		}
		if values.Get("user") != "" {
			return credential, values.Errorf("user cannot be specified for a password: the Secret's keys are the users")
		}
		credential.UserPassword = &kubevirtv1.UserPasswordAccessCredential{
			Source: kubevirtv1.UserPasswordAccessCredentialSource{Secret: &kubevirtv1.AccessCredentialSecretSource{SecretName: secret}},
			PropagationMethod: kubevirtv1.UserPasswordAccessCredentialPropagationMethod{
				QemuGuestAgent: &kubevirtv1.QemuGuestAgentUserPasswordAccessCredentialPropagation{},
			},
		}
		return credential, nil
	default:
		return credential, values.Errorf("invalid type %q, supported values are: ssh, password", kind)
	}
}

func (b *builder) sshCredential(values params.Values, secret string) (kubevirtv1.AccessCredential, error) {
	ssh := &kubevirtv1.SSHPublicKeyAccessCredential{
		Source: kubevirtv1.SSHPublicKeyAccessCredentialSource{Secret: &kubevirtv1.AccessCredentialSecretSource{SecretName: secret}},
	}
	credential := kubevirtv1.AccessCredential{SSHPublicKey: ssh}
	user := values.Get("user")
	switch method := strings.ToLower(values.Get("method")); method {
	case "", "ga":
		if user == "" {
			user = b.opts.CloudInit.User
		}
		if user == "" {
			return credential, values.Errorf("user must be specified with method ga, here or with --user")
		}
		ssh.PropagationMethod.QemuGuestAgent = &kubevirtv1.QemuGuestAgentSSHPublicKeyAccessCredentialPropagation{Users: []string{user}}
		return credential, nil
	case nocloud, configdrive:
		if user != "" {
			return credential, values.Errorf("user cannot be specified with method %s: the key is given to cloud-init's own user", method)
		}
		if method == nocloud {
			ssh.PropagationMethod.NoCloud = &kubevirtv1.NoCloudSSHPublicKeyAccessCredentialPropagation{}
		} else {
			ssh.PropagationMethod.ConfigDrive = &kubevirtv1.ConfigDriveSSHPublicKeyAccessCredentialPropagation{}
		}
		return credential, b.needCloudInit(values, method)
	default:
		return credential, values.Errorf("invalid method %q, supported values are: ga, nocloud, configdrive", method)
	}
}

// needCloudInit makes sure that there is a cloud-init volume of the kind through which a key travels.
func (b *builder) needCloudInit(values params.Values, kind string) error {
	i := slices.IndexFunc(b.spec.Volumes, func(v kubevirtv1.Volume) bool { return v.Name == cloudInitVolume })
	if i < 0 {
		b.addCloudInit(kind, data{}, data{})
		return nil
	}
	if isConfigDrive := b.spec.Volumes[i].CloudInitConfigDrive != nil; isConfigDrive != (kind == configdrive) {
		return values.Errorf("method %s needs --cloud-init %s", kind, kind)
	}
	return nil
}
