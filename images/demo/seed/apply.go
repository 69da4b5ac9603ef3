package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// guest is the file system that a plan is applied to; "/" in the guest itself, a folder in tests.
type guest struct{ root string }

func (g guest) path(elem ...string) string {
	return filepath.Join(append([]string{g.root}, elem...)...)
}

// apply does all of the plan that can be done and returns what could not.
func (g guest) apply(p plan) []error {
	var problems []error
	try := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
	}
	if p.hostname != "" {
		try("set the host name", g.setHostname(p.hostname))
	}
	for _, u := range p.users {
		try("add user "+u.Name, g.addUser(u))
	}
	if len(p.passwords) > 0 {
		try("set the passwords", g.setPasswords(p.passwords))
	}
	for name, keys := range p.keys {
		try("authorize keys of "+name, g.authorize(name, keys))
	}
	for _, f := range p.files {
		try("write "+f.Path, g.writeFile(f))
	}
	for _, s := range p.scripts {
		try("keep "+s.name, g.put(g.path("run/seed/run", s.name), []byte(s.body), 0o755))
	}
	return problems
}

func (g guest) put(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// setHostname also leaves a mark by which the DHCP client knows not to overrule it.
func (g guest) setHostname(name string) error {
	return errors.Join(
		g.put(g.path("etc/hostname"), []byte(name+"\n"), 0o644),
		g.put(g.path("run/seed/hostname"), []byte(name+"\n"), 0o644),
		g.put(g.path("etc/hosts"), []byte("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 "+name+"\n"), 0o644),
		g.writeIfThere("proc/sys/kernel/hostname", name),
	)
}

// writeIfThere writes to a kernel file, which a test's folder does not have.
func (g guest) writeIfThere(name, value string) error {
	f, err := os.OpenFile(g.path(name), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// account is a line of /etc/passwd.
type account struct {
	uid, gid int
	home     string
}

func (g guest) account(name string) (account, error) {
	data, err := os.ReadFile(g.path("etc/passwd"))
	if err != nil {
		return account{}, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 7 || fields[0] != name {
			continue
		}
		uid, err1 := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		return account{uid: uid, gid: gid, home: fields[5]}, errors.Join(err1, err2)
	}
	return account{}, fmt.Errorf("no user %q: %w", name, fs.ErrNotExist)
}

func (g guest) addUser(u user) error {
	if _, err := g.account(u.Name); err == nil {
		return nil
	}
	passwd, err := os.ReadFile(g.path("etc/passwd"))
	if err != nil {
		return err
	}
	id := 1000 + bytes.Count(passwd, []byte("\n"))
	if u.Home == "" {
		u.Home = "/home/" + u.Name
	}
	// Shells that the guest does not have would lock the user out.
	if _, err := os.Stat(g.path(u.Shell)); u.Shell == "" || err != nil {
		u.Shell = "/bin/sh"
	}
	home := g.path(u.Home)
	return errors.Join(
		g.appendTo("etc/passwd", fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", u.Name, id, id, u.Name, u.Home, u.Shell)),
		g.appendTo("etc/group", fmt.Sprintf("%s:x:%d:\n", u.Name, id)),
		g.appendTo("etc/shadow", u.Name+":*:20000:0:99999:7:::\n"),
		os.MkdirAll(home, 0o755),
		g.own(home, account{uid: id, gid: id}),
	)
}

func (g guest) appendTo(name, line string) error {
	f, err := os.OpenFile(g.path(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(line)
	return err
}

// own changes the owner where that is possible: tests need not run as root.
func (g guest) own(name string, a account) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(name, a.uid, a.gid)
}

// setPasswords leaves the encryption to the guest's chpasswd.
func (g guest) setPasswords(all []password) error {
	var failed []error
	for _, p := range all {
		args := []string{}
		if p.hashed {
			args = append(args, "-e")
		}
		cmd := exec.Command(g.path("usr/sbin/chpasswd"), args...)
		cmd.Stdin = strings.NewReader(p.user + ":" + p.value + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w: %s", p.user, err, bytes.TrimSpace(out)))
		}
	}
	return errors.Join(failed...)
}

func (g guest) authorize(name string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	a, err := g.account(name)
	if err != nil {
		return err
	}
	dir := g.path(a.home, ".ssh")
	file := filepath.Join(dir, "authorized_keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(file, []byte(strings.Join(keys, "\n")+"\n"), 0o600),
		g.own(dir, a),
		g.own(file, a),
	)
}

func (g guest) writeFile(f file) error {
	name := g.path(f.Path)
	content := []byte(f.Content)
	if f.Append {
		old, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		content = append(old, content...)
	}
	if err := g.put(name, content, fs.FileMode(f.mode)); err != nil {
		return err
	}
	owner, _, _ := strings.Cut(f.Owner, ":")
	if owner == "" || owner == "root" {
		return nil
	}
	a, err := g.account(owner)
	if err != nil {
		return err
	}
	return g.own(name, a)
}
