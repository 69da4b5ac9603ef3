package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// module is a kernel module, unpacked. Its signature is kept: a kernel started by Secure Boot loads no other.
type module struct {
	name    string
	path    string // relative to /lib/modules/<release>
	data    []byte
	depends []string
	aliases []string
}

// modules returns the named modules of the kernel whose tree is dir (lib/modules/<release>) and all that they depend on.
func modules(ctx context.Context, dir string, names []string) (map[string]module, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok && err == nil && !d.IsDir() {
			files[moduleName(name)] = p
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for kernel modules: %w", err)
	}
	found := map[string]module{}
	for todo := names; len(todo) > 0; todo = todo[1:] {
		name := moduleName(todo[0])
		if _, ok := found[name]; ok {
			continue
		}
		file, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("the kernel has no module %q: correct images/demo/modules.txt", name)
		}
		m, err := loadModule(ctx, name, file)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return nil, fmt.Errorf("place module %s: %w", name, err)
		}
		m.path = strings.TrimSuffix(rel, ".xz")
		found[name] = m
		todo = append(todo, m.depends...)
	}
	return found, nil
}

// moduleName is the kernel's own spelling: file names use - and _ as they like.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func loadModule(ctx context.Context, name, file string) (module, error) {
	m := module{name: name}
	var err error
	if strings.HasSuffix(file, ".xz") {
		m.data, err = exec.CommandContext(ctx, "xz", "-dc", file).Output()
	} else {
		m.data, err = os.ReadFile(file)
	}
	if err != nil {
		return m, fmt.Errorf("unpack the kernel module %s: %w", file, err)
	}
	object, err := elf.NewFile(bytes.NewReader(m.data))
	if err != nil {
		return m, fmt.Errorf("read the kernel module %s: %w", file, err)
	}
	section := object.Section(".modinfo")
	if section == nil {
		return m, fmt.Errorf("the kernel module %s does not describe itself", file)
	}
	info, err := section.Data()
	if err != nil {
		return m, fmt.Errorf("read the kernel module %s: %w", file, err)
	}
	for _, entry := range strings.Split(string(info), "\x00") {
		switch key, value, _ := strings.Cut(entry, "="); key {
		case "depends":
			if value != "" {
				m.depends = append(m.depends, strings.Split(value, ",")...)
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m, nil
}

// addModules puts the modules and modprobe's indexes of them into the initrd.
func addModules(to initrd, release string, mods map[string]module) {
	var names []string
	for name := range mods {
		names = append(names, name)
	}
	slices.Sort(names)
	var deps, aliases strings.Builder
	for _, name := range names {
		m := mods[name]
		to.add(node{path: "lib/modules/" + release + "/" + m.path, mode: 0o644, data: m.data})
		fmt.Fprintf(&deps, "%s:", m.path)
		for _, d := range closure(mods, m.depends) {
			fmt.Fprintf(&deps, " %s", mods[d].path)
		}
		deps.WriteString("\n")
		for _, a := range m.aliases {
			fmt.Fprintf(&aliases, "alias %s %s\n", a, m.name)
		}
	}
	to.add(node{path: "lib/modules/" + release + "/modules.dep", mode: 0o644, data: []byte(deps.String())})
	to.add(node{path: "lib/modules/" + release + "/modules.alias", mode: 0o644, data: []byte(aliases.String())})
}

// closure lists what must be loaded for the direct dependencies, nearest first, as modules.dep wants it.
func closure(mods map[string]module, direct []string) []string {
	var out []string
	for todo := slices.Clone(direct); len(todo) > 0; todo = todo[1:] {
		name := moduleName(todo[0])
		// A module met again is needed earlier than it was placed: move it to the end.
		out = slices.DeleteFunc(out, func(s string) bool { return s == name })
		out = append(out, name)
		todo = append(todo, mods[name].depends...)
	}
	return out
}
