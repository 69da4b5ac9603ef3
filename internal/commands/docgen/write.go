package docgen

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Write brings the generated files below a root up to date, and removes pages of commands that are gone.
func Write(root string, files map[string]string) error {
	stale, err := Stale(root, files)
	if err != nil {
		return err
	}
	for _, path := range stale {
		full := filepath.Join(root, path)
		text, wanted := files[path]
		if !wanted {
			if err := os.Remove(full); err != nil {
				return fmt.Errorf("remove %s: %w", path, err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("make the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// Stale lists the files below a root that differ from what would be generated.
func Stale(root string, files map[string]string) ([]string, error) {
	var stale []string
	for path, text := range files {
		there, err := os.ReadFile(filepath.Join(root, path))
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if err != nil || string(there) != text {
			stale = append(stale, path)
		}
	}
	for _, folder := range []string{"docs/reference", "completions"} {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		for _, e := range entries {
			path := folder + "/" + e.Name()
			if e.IsDir() || files[path] != "" {
				continue
			}
			// Others keep pages here too: only what was generated here may be removed.
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
			if strings.HasPrefix(string(text), note) {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}
