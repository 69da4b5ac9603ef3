package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	suite   = "trixie"
	keyring = "/usr/share/keyrings/debian-archive-trixie-automatic.gpg"
)

// rootfs describes a tree that mmdebstrap makes.
type rootfs struct {
	name      string
	variant   string // mmdebstrap's: minbase installs, extract only unpacks
	packages  []string
	overlay   string // folder copied into the tree before the packages are installed, or empty
	customize string // script run on the tree before it is used, or empty
}

// packageList reads a list with one name a line; # starts a comment.
func packageList(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the package list: %w", err)
	}
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			names = append(names, line)
		}
	}
	return names, lines.Err()
}

// key changes whenever the tree would: with the suite, the packages and the script. A newer package of the same name does not
// change it: `--refresh` is for that.
func (r rootfs) key(mirror string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, suite, r.variant, mirror, strings.Join(r.packages, ","))
	if r.overlay != "" {
		if err := digestTree(sum, r.overlay); err != nil {
			return "", err
		}
	}
	if r.customize != "" {
		script, err := os.ReadFile(r.customize)
		if err != nil {
			return "", fmt.Errorf("read the script of %s: %w", r.name, err)
		}
		sum.Write(script)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// digestTree adds the names and bytes of all files below dir to w.
func digestTree(w io.Writer, dir string) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(w, "%s %d\n%s", strings.TrimPrefix(p, dir), len(data), data)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the files of %s: %w", dir, err)
	}
	return nil
}

// tree returns the folder with the tree, made now or by an earlier run. The folder of an older list is removed.
func (b *builder) tree(ctx context.Context, r rootfs) (string, error) {
	key, err := r.key(b.mirror)
	if err != nil {
		return "", err
	}
	home := filepath.Join(b.cache, r.name)
	dir := filepath.Join(home, key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.RemoveAll(home); err != nil {
		return "", fmt.Errorf("clear the old tree of %s: %w", r.name, err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("make the folder for %s: %w", r.name, err)
	}
	b.logf("%s: fetching %d packages of Debian %s and what they need", r.name, len(r.packages), suite)
	partial := dir + ".partial"
	args := []string{
		"--mode=root", "--format=directory", "--variant=" + r.variant, "--keyring=" + keyring,
		`--aptopt=Apt::Install-Recommends "false"`, "--skip=output/dev", "--include=" + strings.Join(r.packages, ","),
	}
	if r.overlay != "" {
		args = append(args, "--essential-hook=cp -r '"+r.overlay+"/.' \"$1\"", "--dpkgopt=force-confold")
	}
	if err := b.run(ctx, "mmdebstrap", append(args, suite, partial, b.mirror)...); err != nil {
		return "", fmt.Errorf("make the tree of %s (is %s reachable, and are you root?): %w", r.name, b.mirror, err)
	}
	// Not as a hook of mmdebstrap, which still needs apt's files afterwards.
	if r.customize != "" {
		if err := b.run(ctx, "sh", r.customize, partial); err != nil {
			return "", fmt.Errorf("customize the tree of %s: %w", r.name, err)
		}
	}
	if err := os.Rename(partial, dir); err != nil {
		return "", fmt.Errorf("keep the tree of %s: %w", r.name, err)
	}
	return dir, nil
}

// forgetTrees removes what was made from Debian packages, so that it is fetched again.
func forgetTrees(cache string) error {
	bases, err := filepath.Glob(filepath.Join(cache, "*-base"))
	if err != nil {
		return fmt.Errorf("look into the cache %s: %w", cache, err)
	}
	for _, dir := range bases {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear the cache: %w", err)
		}
	}
	return nil
}

// one returns the only file that matches pattern below dir.
func one(dir, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", pattern, err)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files %s in %s, want one: %w", len(found), pattern, dir, fs.ErrNotExist)
	}
	return found[0], nil
}
