package vm

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/commands/create/params"
)

// Kinds of cloud-init volumes.
const (
	nocloud     = "nocloud"
	configdrive = "configdrive"
	none        = "none"
)

const (
	cloudInitVolume = "cloudinitdisk"
	// inlineLimit is how many bytes of user or network data the API takes inline.
	inlineLimit = 2048
)

// data is user data or network data in one of the forms the API knows.
type data struct {
	plain, base64, secret string
}

func (d data) empty() bool { return d == data{} }

func (d data) reference() *corev1.LocalObjectReference {
	if d.secret == "" {
		return nil
	}
	return &corev1.LocalObjectReference{Name: d.secret}
}

// cloudInit adds the cloud-init volume when there is something to say to the guest.
func (b *builder) cloudInit() error {
	c := &b.opts.CloudInit
	user, err := b.userData()
	if err != nil {
		return err
	}
	network, err := b.given(flagNetworkData, c.NetworkData, flagNetworkDataFile, c.NetworkDataFile)
	if err != nil {
		return err
	}
	network.secret = c.NetworkDataSecret
	kind := strings.ToLower(c.Kind)
	switch {
	case kind != nocloud && kind != configdrive && kind != none:
		return params.Errorf("cloud-init", "invalid cloud-init data source type %q, supported values are: %s, %s, %s", c.Kind, nocloud, configdrive, none)
	case user.empty() && network.empty():
		return nil
	case kind == none:
		return params.Errorf("cloud-init", "none was asked for, but user or network data was given")
	}
	b.addCloudInit(kind, user, network)
	return nil
}

func (b *builder) addCloudInit(kind string, user, network data) {
	volume := kubevirtv1.Volume{Name: cloudInitVolume}
	if kind == configdrive {
		volume.CloudInitConfigDrive = &kubevirtv1.CloudInitConfigDriveSource{
			UserData: user.plain, UserDataBase64: user.base64, UserDataSecretRef: user.reference(),
			NetworkData: network.plain, NetworkDataBase64: network.base64, NetworkDataSecretRef: network.reference(),
		}
	} else {
		volume.CloudInitNoCloud = &kubevirtv1.CloudInitNoCloudSource{
			UserData: user.plain, UserDataBase64: user.base64, UserDataSecretRef: user.reference(),
			NetworkData: network.plain, NetworkDataBase64: network.base64, NetworkDataSecretRef: network.reference(),
		}
	}
	b.spec.Volumes = append(b.spec.Volumes, volume)
}

// userData is what the user gave, or a #cloud-config made from the flags about the user.
func (b *builder) userData() (data, error) {
	c := &b.opts.CloudInit
	d, err := b.given(flagUserData, c.UserData, flagUserDataFile, c.UserDataFile)
	d.secret = c.UserDataSecret
	if err != nil || !d.empty() {
		return d, err
	}
	return b.userConfig()
}

// given reads data from a flag or from the file another flag names.
func (b *builder) given(flag, encoded, fileFlag, file string) (data, error) {
	if encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return data{}, params.Errorf(flag, "is not valid base64 (%w); use --%s for a plain file", err, fileFlag)
		}
		return data{base64: encoded}, tooLong(flag, raw)
	}
	if file == "" {
		return data{}, nil
	}
	raw, err := b.readFile(file)
	if err != nil {
		return data{}, params.Errorf(fileFlag, "%w", err)
	}
	if err := tooLong(fileFlag, raw); err != nil {
		return data{}, err
	}
	if !utf8.Valid(raw) {
		return data{base64: base64.StdEncoding.EncodeToString(raw)}, nil
	}
	return data{plain: string(raw)}, nil
}

func tooLong(flag string, raw []byte) error {
	if len(raw) <= inlineLimit {
		return nil
	}
	return params.Errorf(flag, "has %d bytes, but a machine holds at most %d inline: put it into a Secret and name that with --cloud-init-user-data-secret or --cloud-init-network-data-secret",
		len(raw), inlineLimit)
}

func (b *builder) readFile(path string) ([]byte, error) {
	if path == "-" {
		raw, err := io.ReadAll(b.streams.In)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return raw, nil
	}
	return os.ReadFile(path)
}

// cloudConfig is the part of cloud-init's configuration that the flags speak of.
type cloudConfig struct {
	User     string     `json:"user,omitempty"`
	Password string     `json:"password,omitempty"`
	Chpasswd *chpasswd  `json:"chpasswd,omitempty"`
	Keys     []string   `json:"ssh_authorized_keys,omitempty"`
	RunCmd   [][]string `json:"runcmd,omitempty"`
}

type chpasswd struct {
	Expire bool `json:"expire"`
}

func (b *builder) userConfig() (data, error) {
	c := &b.opts.CloudInit
	config := cloudConfig{User: c.User, Keys: c.Keys}
	if c.PasswordFile != "" {
		raw, err := b.readFile(c.PasswordFile)
		if err != nil {
			return data{}, params.Errorf("password-file", "%w", err)
		}
		config.Password = strings.TrimRight(string(raw), "\r\n")
		if config.Password == "" {
			return data{}, params.Errorf("password-file", "%s is empty", c.PasswordFile)
		}
		config.Chpasswd = &chpasswd{Expire: false}
		b.streams.Say("warning: the password is stored in the virtual machine in clear text; " +
			"everyone who may read the machine can read it: prefer --ssh-key or --access-cred\n")
	}
	if c.AgentManagesKeys {
		config.RunCmd = [][]string{{"setsebool", "-P", "virt_qemu_ga_manage_ssh", "on"}}
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return data{}, fmt.Errorf("write the user data: %w", err)
	}
	if strings.TrimSpace(string(text)) == "{}" {
		return data{}, nil
	}
	full := "#cloud-config\n" + string(text)
	if len(full) > inlineLimit {
		return data{}, params.Errorf("ssh-key", "the keys make %d bytes of user data, but a machine holds at most %d: use --access-cred", len(full), inlineLimit)
	}
	return data{plain: full}, nil
}
