package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxData bounds what is read of one file: cloud-init's own limit for user data is far below it.
const maxData = 4 << 20

// instance is what the disk says, whichever layout it has.
type instance struct {
	hostname string
	keys     []string
	userData []byte
}

// readInstance reads dir as NoCloud (meta-data, user-data) or as a config drive (openstack/latest).
func readInstance(dir string) (instance, error) {
	drive := filepath.Join(dir, "openstack", "latest")
	if _, err := os.Stat(drive); err == nil {
		return readDrive(drive)
	}
	var in instance
	meta, err := readLimited(filepath.Join(dir, "meta-data"))
	if err != nil {
		return in, err
	}
	var m struct {
		LocalHostname string   `yaml:"local-hostname"`
		Hostname      string   `yaml:"hostname"`
		PublicKeys    keyField `yaml:"public-keys"`
	}
	if err := yaml.Unmarshal(meta, &m); err != nil {
		return in, fmt.Errorf("read meta-data: %w", err)
	}
	in.hostname, in.keys = m.LocalHostname, m.PublicKeys
	if in.hostname == "" {
		in.hostname = m.Hostname
	}
	in.userData, err = readUserData(filepath.Join(dir, "user-data"))
	return in, err
}

func readDrive(dir string) (instance, error) {
	var in instance
	meta, err := readLimited(filepath.Join(dir, "meta_data.json"))
	if err != nil {
		return in, err
	}
	var m struct {
		Hostname      string            `json:"hostname"`
		LocalHostname string            `json:"local-hostname"`
		PublicKeys    map[string]string `json:"public_keys"`
	}
	if len(meta) > 0 {
		if err := json.Unmarshal(meta, &m); err != nil {
			return in, fmt.Errorf("read meta_data.json: %w", err)
		}
	}
	in.hostname = m.Hostname
	if in.hostname == "" {
		in.hostname = m.LocalHostname
	}
	for _, key := range m.PublicKeys {
		in.keys = append(in.keys, key)
	}
	slices.Sort(in.keys)
	in.userData, err = readUserData(filepath.Join(dir, "user_data"))
	return in, err
}

// readLimited returns nothing for a file that is not there: each of them is optional.
func readLimited(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return limited(f, filepath.Base(name))
}

func limited(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxData {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxData)
	}
	return data, nil
}

func readUserData(name string) ([]byte, error) {
	data, err := readLimited(name)
	if err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(name), err)
	}
	return limited(z, filepath.Base(name))
}

// keyField is cloud-init's public-keys: one key, a list, or a map of names to keys or to {openssh-key: key}.
type keyField []string

func (k *keyField) UnmarshalYAML(n *yaml.Node) error {
	switch n.Kind {
	case yaml.ScalarNode:
		for line := range strings.Lines(n.Value) {
			if line = strings.TrimSpace(line); line != "" {
				*k = append(*k, line)
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := k.UnmarshalYAML(item); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			if err := k.UnmarshalYAML(n.Content[i]); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("line %d: want a public key or a list of them", n.Line)
	}
	return nil
}
