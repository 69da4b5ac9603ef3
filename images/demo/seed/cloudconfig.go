package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// defaultUser is the one that a cloud-config without users talks about.
const defaultUser = "demo"

// plan is what is to be done to the guest.
type plan struct {
	hostname  string
	users     []user
	passwords []password
	keys      map[string][]string // by user
	files     []file
	scripts   []script // run when the network is up, in this order
}

type user struct {
	Name       string   `yaml:"name"`
	Shell      string   `yaml:"shell"`
	Home       string   `yaml:"homedir"`
	Passwd     string   `yaml:"passwd"`
	Hashed     string   `yaml:"hashed_passwd"`
	Plain      string   `yaml:"plain_text_passwd"`
	PublicKeys keyField `yaml:"ssh_authorized_keys"`
}

type password struct {
	user, value string
	hashed      bool
}

type file struct {
	Path        string `yaml:"path"`
	Content     string `yaml:"content"`
	Encoding    string `yaml:"encoding"`
	Permissions string `yaml:"permissions"`
	Owner       string `yaml:"owner"`
	Append      bool   `yaml:"append"`
	mode        uint32
}

type script struct {
	name string
	body string
}

type cloudConfig struct {
	Hostname string     `yaml:"hostname"`
	FQDN     string     `yaml:"fqdn"`
	Password string     `yaml:"password"`
	Chpasswd chpasswd   `yaml:"chpasswd"`
	Keys     keyField   `yaml:"ssh_authorized_keys"`
	Users    []userItem `yaml:"users"`
	Files    []file     `yaml:"write_files"`
	BootCmd  []command  `yaml:"bootcmd"`
	RunCmd   []command  `yaml:"runcmd"`
}

type chpasswd struct {
	List  lines `yaml:"list"`
	Users []struct {
		Name     string `yaml:"name"`
		Password string `yaml:"password"`
		Type     string `yaml:"type"`
	} `yaml:"users"`
}

// lines is a list of strings or a block of lines.
type lines []string

func (l *lines) UnmarshalYAML(n *yaml.Node) error {
	var list []string
	if n.Kind == yaml.SequenceNode {
		if err := n.Decode(&list); err != nil {
			return err
		}
	} else {
		list = strings.Split(n.Value, "\n")
	}
	*l = slices.DeleteFunc(list, func(s string) bool { return strings.TrimSpace(s) == "" })
	return nil
}

// userItem is a user, or the word "default" for the one that is always there.
type userItem struct{ user }

func (u *userItem) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		u.Name = n.Value
		return nil
	}
	return n.Decode(&u.user)
}

// command is a shell line, or a list of words that no shell splits.
type command string

func (c *command) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*c = command(n.Value)
		return nil
	}
	var words []string
	if err := n.Decode(&words); err != nil {
		return err
	}
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	*c = command(strings.Join(words, " "))
	return nil
}

// plan turns the instance data into what is to be done, and tells what in it cannot be.
func (in instance) plan() (plan, []error) {
	p := plan{hostname: in.hostname, keys: map[string][]string{}}
	p.addKeys(in.keys)
	data := bytes.TrimLeft(in.userData, " \t\r\n")
	var problems []error
	switch {
	case len(data) == 0:
	case bytes.HasPrefix(data, []byte("#!")):
		p.scripts = []script{{"user-data", string(data)}}
	case bytes.HasPrefix(data, []byte("#cloud-config")):
		problems = p.addCloudConfig(data)
	default:
		problems = []error{fmt.Errorf("user data begins with neither #! nor #cloud-config: the demo guest reads nothing else")}
	}
	if p.hostname != "" && !validHostname.MatchString(p.hostname) {
		problems = append(problems, fmt.Errorf("%q is not a host name", p.hostname))
		p.hostname = ""
	}
	return p, problems
}

var (
	validHostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62})$`)
	validUser     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
)

// addKeys lets both the guest's user and root log in with keys.
func (p *plan) addKeys(keys []string) {
	if len(keys) > 0 {
		p.keys[defaultUser] = append(p.keys[defaultUser], keys...)
		p.keys["root"] = append(p.keys["root"], keys...)
	}
}

func (p *plan) addCloudConfig(data []byte) []error {
	var c cloudConfig
	if err := yaml.Unmarshal(data, &c); err != nil {
		return []error{fmt.Errorf("read the cloud-config: %w", err)}
	}
	if c.Hostname != "" || c.FQDN != "" {
		name, _, _ := strings.Cut(c.FQDN, ".")
		if c.Hostname != "" {
			name = c.Hostname
		}
		p.hostname = name
	}
	p.addKeys(c.Keys)
	problems := p.addUsers(c.Users)
	if c.Password != "" {
		p.passwords = append(p.passwords, password{defaultUser, c.Password, looksHashed(c.Password)})
	}
	problems = append(problems, p.addPasswords(c.Chpasswd)...)
	problems = append(problems, p.addFiles(c.Files)...)
	p.addCommands("10-bootcmd", c.BootCmd)
	p.addCommands("20-runcmd", c.RunCmd)
	return problems
}

func (p *plan) addUsers(items []userItem) []error {
	var problems []error
	for _, item := range items {
		u := item.user
		if u.Name == "default" {
			continue
		}
		if !validUser.MatchString(u.Name) {
			problems = append(problems, fmt.Errorf("%q is not a user name", u.Name))
			continue
		}
		if strings.ContainsAny(u.Home+u.Shell, ":\n") {
			problems = append(problems, fmt.Errorf("user %s: a home or shell cannot hold a colon", u.Name))
			continue
		}
		p.users = append(p.users, u)
		p.keys[u.Name] = append(p.keys[u.Name], u.PublicKeys...)
		switch {
		case u.Plain != "":
			p.passwords = append(p.passwords, password{u.Name, u.Plain, false})
		case u.Hashed != "":
			p.passwords = append(p.passwords, password{u.Name, u.Hashed, true})
		case u.Passwd != "":
			p.passwords = append(p.passwords, password{u.Name, u.Passwd, true})
		}
	}
	return problems
}

// looksHashed is cloud-init's own test for a password that is already encrypted.
func looksHashed(s string) bool {
	for _, prefix := range []string{"$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func (p *plan) addPasswords(c chpasswd) []error {
	var problems []error
	for _, line := range c.List {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || !validUser.MatchString(name) {
			problems = append(problems, fmt.Errorf("chpasswd: want name:password on every line of the list"))
			continue
		}
		p.passwords = append(p.passwords, password{name, value, looksHashed(value)})
	}
	for _, u := range c.Users {
		if !validUser.MatchString(u.Name) || u.Type == "RANDOM" {
			problems = append(problems, fmt.Errorf("chpasswd: user %q needs a valid name and a password", u.Name))
			continue
		}
		p.passwords = append(p.passwords, password{u.Name, u.Password, u.Type == "hash"})
	}
	p.passwords = slices.DeleteFunc(p.passwords, func(set password) bool {
		bad := strings.ContainsAny(set.value, "\n\x00")
		if bad {
			problems = append(problems, fmt.Errorf("the password of %s holds a line break", set.user))
		}
		return bad
	})
	return problems
}

func (p *plan) addFiles(files []file) []error {
	var problems []error
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "/") {
			problems = append(problems, fmt.Errorf("write_files: %q is not an absolute path", f.Path))
			continue
		}
		content, err := decode(f.Encoding, f.Content)
		if err != nil {
			problems = append(problems, fmt.Errorf("write_files: %s: %w", f.Path, err))
			continue
		}
		f.Content, f.mode = content, 0o644
		if f.Permissions != "" {
			mode, err := strconv.ParseUint(strings.TrimPrefix(f.Permissions, "0o"), 8, 12)
			if err != nil {
				problems = append(problems, fmt.Errorf("write_files: %s: permissions %q are not octal", f.Path, f.Permissions))
				continue
			}
			f.mode = uint32(mode)
		}
		p.files = append(p.files, f)
	}
	return problems
}

func decode(encoding, content string) (string, error) {
	switch strings.ToLower(encoding) {
	case "", "text/plain":
		return content, nil
	case "b64", "base64":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(content), ""))
		return string(data), err
	}
	return "", fmt.Errorf("encoding %q: the demo guest knows text/plain and base64", encoding)
}

func (p *plan) addCommands(name string, commands []command) {
	if len(commands) == 0 {
		return
	}
	var body strings.Builder
	body.WriteString("#!/bin/sh\n")
	for _, c := range commands {
		body.WriteString(string(c) + "\n")
	}
	p.scripts = append(p.scripts, script{name, body.String()})
}
