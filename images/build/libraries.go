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
