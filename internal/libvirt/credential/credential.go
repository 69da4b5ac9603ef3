// Package credential reads the Secrets of access credentials where kubelet has mounted them. Their owner may write anything into
// them: files, bytes, keys and passwords are bounded. What is in them never gets into an error.
package credential

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"virtctl/internal/libvirt/wire"
)

// The bounds of a Secret.
const (
	maxFiles = 1024
	// maxFile bounds one of its values, in bytes.
	maxFile = 64 << 10
	// maxBytes bounds all of them: Kubernetes keeps no larger object.
	maxBytes = 1 << 20
	// MaxKeys bounds the public keys of one list.
	MaxKeys = 1024
)

// Password is one user's.
type Password struct{ User, Secret string }

// PublicKeys reads the SSH public keys in directories: any number in each file, one a line. Comments and empty lines are left out,
// as sshd does.
func PublicKeys(dirs ...string) ([]string, error) {
	var keys []string
	for _, dir := range dirs {
		err := each(dir, func(_ string, content []byte) error {
			for line := range strings.SplitSeq(string(content), "\n") {
				line = strings.TrimSpace(line)
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				if len(keys) == MaxKeys {
					return invalidf("they hold more than %d SSH keys", MaxKeys)
				}
				keys = append(keys, line)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// Passwords reads the passwords in a directory. Each file is named after its user; space around a password is not part of it, and an
// empty one is none (contract).
func Passwords(dir string) ([]Password, error) {
	var passwords []Password
	err := each(dir, func(name string, content []byte) error {
		if secret := strings.TrimSpace(string(content)); secret != "" {
			passwords = append(passwords, Password{name, secret})
		}
		return nil
	})
	return passwords, err
}

// each calls read with the files of a Secret in the order of their names. Kubelet keeps the files in a hidden directory that it
// swaps as a whole; reading through an opened one gives files that belong together.
func each(dir string, read func(name string, content []byte) error) error {
	root, err := openNow(dir)
	if err != nil {
		return fmt.Errorf("read access credentials: %w", err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read access credentials: %w", err)
	}
	files, total := 0, 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if info, err := root.Stat(e.Name()); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if files++; files > maxFiles {
			return invalidf("they have more than %d keys", maxFiles)
		}
		content, err := readFile(root, e.Name())
		if err != nil {
			return err
		}
		if total += len(content); total > maxBytes {
			return invalidf("they have more than %d KiB", maxBytes>>10)
		}
		if err := read(e.Name(), content); err != nil {
			return err
		}
	}
	return nil
}

// openNow opens what kubelet shows at this moment, or the directory itself if it is not kubelet's.
func openNow(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	now, err := root.OpenRoot("..data")
	if errors.Is(err, fs.ErrNotExist) {
		return root, nil
	}
	_ = root.Close()
	return now, err
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read access credentials: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read access credentials: %w", err)
	}
	if len(content) > maxFile {
		return nil, invalidf("the value of %s has more than %d KiB", name, maxFile>>10)
	}
	return content, nil
}

func invalidf(format string, args ...any) error {
	return &wire.Error{Code: wire.CodeInvalid, Message: "the Secrets of accessCredentials cannot be used: " + fmt.Sprintf(format, args...)}
}
