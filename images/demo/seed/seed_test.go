package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func parse(userData string) (plan, []error) {
	return instance{hostname: "meta", keys: []string{"ssh-ed25519 AAAA meta"}, userData: []byte(userData)}.plan()
}

// What users write in cloud-config, in the forms that cloud-init's documentation shows.
func TestCloudConfig(t *testing.T) {
	p, problems := parse(`#cloud-config
hostname: web
password: $6$salt$hash
chpasswd:
  expire: false
  list: |
    root:rootpw
    demo:$6$other
  users:
  - {name: ops, password: opspw, type: text}
ssh_authorized_keys:
- ssh-ed25519 BBBB user
users:
- default
- name: ops
  plain_text_passwd: first
  ssh_authorized_keys: [ssh-ed25519 CCCC ops]
write_files:
- path: /etc/a
  content: aGVsbG8K
  encoding: b64
  permissions: '0600'
  owner: demo:demo
- {path: /etc/b, content: more, append: true}
bootcmd:
- echo boot
runcmd:
- echo 'one line'
- [echo, it's, two words]
packages: [ignored]
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if p.hostname != "web" {
		t.Errorf("host name %q", p.hostname)
	}
	wantPasswords := []password{
		{"ops", "first", false}, {"demo", "$6$salt$hash", true}, {"root", "rootpw", false}, {"demo", "$6$other", true}, {"ops", "opspw", false},
	}
	if !slices.Equal(p.passwords, wantPasswords) {
		t.Errorf("passwords %+v", p.passwords)
	}
	for name, want := range map[string]string{"root": "AAAA,BBBB", "demo": "AAAA,BBBB", "ops": "CCCC"} {
		var got []string
		for _, k := range p.keys[name] {
			got = append(got, strings.Fields(k)[1])
		}
		if strings.Join(got, ",") != want {
			t.Errorf("keys of %s: %q", name, got)
		}
	}
	if f := p.files[0]; f.Content != "hello\n" || f.mode != 0o600 || f.Owner != "demo:demo" {
		t.Errorf("file %+v", f)
	}
	wantScripts := []script{{"10-bootcmd", "#!/bin/sh\necho boot\n"}, {"20-runcmd", "#!/bin/sh\necho 'one line'\n'echo' 'it'\\''s' 'two words'\n"}}
	if !slices.Equal(p.scripts, wantScripts) {
		t.Errorf("scripts %q", p.scripts)
	}
}

// A user finds out on the console what was not understood, and keeps what was.
func TestProblemsAreNamed(t *testing.T) {
	for userData, want := range map[string]string{
		"hello":                                       "neither",
		"#cloud-config\nhostname: [a]\n":              "cloud-config",
		"#cloud-config\nhostname: 'a b'\n":            "host name",
		"#cloud-config\nusers:\n- name: 'root:x:0'\n": "user name",
		"#cloud-config\nusers:\n- {name: a, shell: \"/bin/sh\\nroot2::0:0::/:\"}\n": "colon",
		"#cloud-config\nwrite_files:\n- {path: relative, content: x}\n":             "absolute",
		"#cloud-config\nwrite_files:\n- {path: /x, content: x, permissions: rw}\n":  "octal",
		"#cloud-config\nwrite_files:\n- {path: /x, content: x, encoding: rot13}\n":  "rot13",
		"#cloud-config\nchpasswd:\n  list: [nothing]\n":                             "name:password",
		"#cloud-config\nchpasswd:\n  users: [{name: demo, type: RANDOM}]\n":         "password",
		"#cloud-config\npassword: \"a\\nroot:b\"\n":                                 "line break",
	} {
		p, problems := parse(userData)
		if len(p.users)+len(p.passwords)+len(p.files) > 0 {
			t.Errorf("%q: %+v would be done", userData, p)
		}
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), want) {
			t.Errorf("%q: %v, want one with %q", userData, problems, want)
		}
	}
}

func TestScripts(t *testing.T) {
	p, problems := parse("#!/bin/sh\necho hi\n")
	if len(problems) > 0 || len(p.scripts) != 1 || p.scripts[0].body != "#!/bin/sh\necho hi\n" || p.hostname != "meta" {
		t.Errorf("%+v %v", p, problems)
	}
}

// Both layouts of the disk, and user data that is missing or packed.
func TestReadInstance(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		files map[string]string
		want  instance
	}{
		"nocloud":      {map[string]string{"meta-data": "local-hostname: a\npublic-keys:\n  k1: one\n  k2: {openssh-key: two}\n", "user-data": "#!u"}, instance{"a", []string{"one", "two"}, []byte("#!u")}},
		"json meta":    {map[string]string{"meta-data": `{"hostname": "b", "public-keys": ["one"]}`}, instance{"b", []string{"one"}, nil}},
		"empty":        {nil, instance{}},
		"packed":       {map[string]string{"user-data": packed.String()}, instance{userData: []byte("#!/bin/sh\n")}},
		"config drive": {map[string]string{"openstack/latest/meta_data.json": `{"hostname": "c", "public_keys": {"x": "one"}}`, "openstack/latest/user_data": "#!u"}, instance{"c", []string{"one"}, []byte("#!u")}},
	} {
		dir := t.TempDir()
		for name, content := range c.files {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := readInstance(dir)
		if err != nil || got.hostname != c.want.hostname || !slices.Equal(got.keys, c.want.keys) || !bytes.Equal(got.userData, c.want.userData) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "user-data"), make([]byte, maxData+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readInstance(dir); err == nil {
		t.Error("user data without bounds was read")
	}
}

// The plan reaches the file system: accounts, keys, files and the scripts for later.
func TestApply(t *testing.T) {
	root := t.TempDir()
	g := guest{root}
	for name, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndemo:x:1000:1000:demo:/home/demo:/bin/sh\n",
		"etc/log":    "old\n",
		// Records what a real one would change.
		"usr/sbin/chpasswd": "#!/bin/sh\nread -r line; echo \"$* $line\" >> " + root + "/changed\n",
	} {
		if err := g.put(g.path(name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p, problems := parse(`#cloud-config
hostname: web
password: pw
users: [{name: ops, hashed_passwd: $6$x, ssh_authorized_keys: k}]
write_files: [{path: /etc/log, content: new, append: true}, {path: /a/b, content: c, permissions: '0700'}]
runcmd: [true]
`)
	if problems = append(problems, g.apply(p)...); len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, want := range map[string]string{
		"etc/hostname": "web\n", "run/seed/hostname": "web\n", "etc/log": "old\nnew", "a/b": "c",
		"home/ops/.ssh/authorized_keys": "k\n", "home/demo/.ssh/authorized_keys": "ssh-ed25519 AAAA meta\n",
		"run/seed/run/20-runcmd": "#!/bin/sh\ntrue\n", "changed": "-e ops:$6$x\n demo:pw\n",
	} {
		if got, err := os.ReadFile(g.path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if a, err := g.account("ops"); err != nil || a.uid < 1001 || a.home != "/home/ops" {
		t.Errorf("ops: %+v, %v", a, err)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte("#cloud-config\nusers: [{name: a}]\nruncmd: [[a, b], c]\n"), "k")
	f.Add([]byte("#cloud-config\npassword: \"a\\nroot:b\"\n"), "")
	f.Fuzz(func(t *testing.T, userData []byte, key string) {
		p, _ := instance{keys: []string{key}, userData: userData}.plan()
		for _, u := range p.users {
			if strings.ContainsAny(u.Name+u.Home+u.Shell, ":\n") {
				t.Errorf("user %+v would write more than its own line of /etc/passwd", u)
			}
		}
		for _, s := range p.passwords {
			if strings.ContainsAny(s.user, ":\n") || strings.Contains(s.value, "\n") {
				t.Errorf("password %+v would set another's", s)
			}
		}
	})
}
