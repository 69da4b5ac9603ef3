package main

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkLibraries reports every program and library below root that needs a shared library which is not there: what a stripped image
// breaks must be known when it is built, not when a VM starts.
func checkLibraries(root string) error {
	have := map[string]bool{}
	needs := map[string][]string{} // library -> who needs it
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(p, root)
		if strings.Contains(d.Name(), ".so") {
			if _, err := os.Stat(p); err == nil || d.Type()&fs.ModeSymlink == 0 {
				have[d.Name()] = true
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := elf.Open(p)
		if err != nil {
			return nil // not a program
		}
		defer f.Close()
		libraries, err := f.ImportedLibraries()
		for _, l := range libraries {
			needs[l] = append(needs[l], rel)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at the libraries of %s: %w", root, err)
	}
	var missing []string
	for library, users := range needs {
		if !have[library] {
			missing = append(missing, fmt.Sprintf("%s (for %s)", library, strings.Join(users, ", ")))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("libraries taken away that are still needed: %s", strings.Join(missing, "; "))
}

// checkProgram refuses a program whose libraries the image below root does not have.
func checkProgram(root, file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("%s is not a Linux program: build it with `make %s`: %w", file, file, err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, l := range libraries {
		if _, err := os.Stat(filepath.Join(root, "usr/lib/x86_64-linux-gnu", l)); err != nil {
			return fmt.Errorf("%s needs %s, which the image lacks: name its package in images/launcher/packages.txt", file, l)
		}
	}
	return nil
}
