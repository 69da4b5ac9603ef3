package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"virtctl/internal/libvirt/credential"
	"virtctl/internal/libvirt/wire"
)

const (
	// Commands by which the agent takes credentials.
	SetKeys     = "guest-ssh-add-authorized-keys"
	SetPassword = "guest-set-user-password"

	// maxCredentialUsers bounds how many users get something: each costs a command, and the agent does one at a time.
	maxCredentialUsers = 64
	// maxTold bounds how many refusals a message tells.
	maxTold = 4
)

// Credentials is what the users of a guest get.
type Credentials struct {
	keys      []userKeys
	passwords []credential.Password
}

type userKeys struct {
	user string
	keys []string
}

// ReadCredentials reads the Secrets. A user that several of them name gets the keys of all, and the password of the last.
func ReadCredentials(list []wire.Credential) (Credentials, error) {
	var c Credentials
	for _, source := range list {
		if len(source.Users) == 0 {
			passwords, err := credential.Passwords(source.Dir)
			if err != nil {
				return c, err
			}
			for _, p := range passwords {
				c.addPassword(p)
			}
		} else {
			keys, err := credential.PublicKeys(source.Dir)
			if err != nil {
				return c, err
			}
			for _, user := range source.Users {
				c.addKeys(user, keys)
			}
		}
		if len(c.keys)+len(c.passwords) > maxCredentialUsers {
			return c, &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf(
				"accessCredentials give keys and passwords to more than %d users", maxCredentialUsers)}
		}
	}
	return c, c.check()
}

func (c *Credentials) addPassword(p credential.Password) {
	at := slices.IndexFunc(c.passwords, func(x credential.Password) bool { return x.User == p.User })
	if at < 0 {
		c.passwords = append(c.passwords, p)
		return
	}
	c.passwords[at] = p
}

func (c *Credentials) addKeys(user string, keys []string) {
	at := slices.IndexFunc(c.keys, func(x userKeys) bool { return x.user == user })
	if at < 0 {
		at, c.keys = len(c.keys), append(c.keys, userKeys{user: user, keys: []string{}})
	}
	for _, key := range keys {
		if !slices.Contains(c.keys[at].keys, key) {
			c.keys[at].keys = append(c.keys[at].keys, key)
		}
	}
}

func (c *Credentials) check() error {
	for _, u := range c.keys {
		if len(u.keys) > credential.MaxKeys {
			return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf(
				"accessCredentials give user %q more than %d SSH keys", clean(u.user), credential.MaxKeys)}
		}
	}
	return nil
}

// Apply has the agent do it. A user it refuses does not keep the others from theirs. The error holds what the agent said, bounded,
// and no password.
func (c Credentials) Apply(ctx context.Context, run Run) error {
	var refused []string
	for _, u := range c.keys {
		err := tell(ctx, run, SetKeys, map[string]any{"username": u.user, "keys": u.keys, "reset": true})
		if err != nil {
			refused = append(refused, fmt.Sprintf("set the SSH keys of user %q: %s", clean(u.user), clean(err.Error())))
		}
	}
	for _, p := range c.passwords {
		encoded := base64.StdEncoding.EncodeToString([]byte(p.Secret))
		err := tell(ctx, run, SetPassword, map[string]any{"username": p.User, "password": encoded, "crypted": false})
		if err == nil {
			continue
		}
		said := err.Error()
		if strings.Contains(said, p.Secret) || strings.Contains(said, encoded) {
			said = "the guest agent refused it in words that hold the password"
		}
		refused = append(refused, fmt.Sprintf("set the password of user %q: %s", clean(p.User), clean(said)))
	}
	if len(refused) == 0 {
		return nil
	}
	more := ""
	if len(refused) > maxTold {
		more = fmt.Sprintf("; and %d more", len(refused)-maxTold)
	}
	return errors.New(strings.Join(head(refused, maxTold), "; ") + more)
}

// tell sends a command that has no answer but that it was done.
func tell(ctx context.Context, run Run, command string, arguments map[string]any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return fmt.Errorf("write %s: %w", command, err)
	}
	answer, err := run(string(line))
	if err != nil {
		return err
	}
	var envelope struct {
		Error *struct {
			Description string `json:"desc"`
		} `json:"error"`
	}
	if len(answer) > maxAnswer || json.Unmarshal(answer, &envelope) != nil {
		return fmt.Errorf("the guest agent's answer to %s makes no sense", command)
	}
	if envelope.Error != nil {
		return errors.New(envelope.Error.Description)
	}
	return nil
}
