package disk

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"virtctl/internal/libvirt/credential"
	"virtctl/internal/libvirt/image"
	"virtctl/internal/libvirt/iso"
	"virtctl/internal/libvirt/wire"
)

const (
	// maxFile bounds one file that goes into an image: Kubernetes objects end at 1 MiB, base64 adds a third.
	maxFile = 4 << 20
	// maxLinked bounds links to directories within linked directories; kubelet makes one level.
	maxLinked = 4
)

// isoDisk makes an image unless it exists: its content may not change under a running guest.
func (m Maker) isoDisk(spec wire.DiskSpec) (wire.DiskFacts, error) {
	out := spec.Image
	if out == "" {
		out = filepath.Join(m.ISODir, spec.Name+".iso")
	}
	if _, err := os.Lstat(out); errors.Is(err, os.ErrNotExist) {
		files, err := isoFiles(spec)
		if err != nil {
			return wire.DiskFacts{}, err
		}
		err = create(out, func(f *os.File) error {
			if err := iso.Write(f, spec.Label, time.Now(), files); err != nil {
				return invalid{err}
			}
			return nil
		})
		if err != nil {
			return wire.DiskFacts{}, err
		}
	}
	if err := link(out, spec.Link); err != nil {
		return wire.DiskFacts{}, err
	}
	stat, err := os.Stat(out)
	if err != nil {
		return wire.DiskFacts{}, fmt.Errorf("look at the image: %w", err)
	}
	return wire.DiskFacts{Path: out, Format: string(image.Raw), VirtualSize: stat.Size(), DirectIO: directIO(out), ReadOnly: true}, nil
}

// link gives an image another name. A second disk of the same kind, or a second try, leaves what is there.
func link(image, name string) error {
	if name == "" {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = os.Link(image, name)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("link the image: %w", err)
	}
	return nil
}

func isoFiles(spec wire.DiskSpec) ([]iso.File, error) {
	var files []iso.File
	if spec.Source != "" {
		tree, err := readTree(spec.Source, maxLinked)
		if err != nil {
			return nil, err
		}
		files = tree
	}
	listed, err := listedFiles(spec.Files)
	if err != nil {
		return nil, err
	}
	files = append(files, listed...)
	if spec.CloudInit != nil {
		meta, err := metadata(spec.CloudInit)
		if err != nil {
			return nil, err
		}
		files = append(files, meta)
	}
	return files, nil
}

// listedFiles reads files that are named one by one. Of several optional ones for one path the first that exists counts. Where one
// is needed, one must exist: a Secret whose keys are misspelt would leave the guest without its configuration and nobody would know.
func listedFiles(list []wire.ISOFile) ([]iso.File, error) {
	var files []iso.File
	found := map[string]bool{}
	missing := map[string][]string{}
	for _, f := range list {
		if found[f.Path] {
			continue
		}
		content, err := fileContent(f)
		if f.Optional && errors.Is(err, os.ErrNotExist) {
			if f.Needed {
				missing[f.Path] = append(missing[f.Path], filepath.Base(f.From))
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		found[f.Path] = true
		files = append(files, iso.File{Path: f.Path, Content: content})
	}
	for path, keys := range missing {
		if !found[path] {
			return nil, invalidf("the Secret for %s has none of the keys %s; name its key one of these", path, strings.Join(keys, ", "))
		}
	}
	return files, nil
}

// readTree reads a projected volume. Kubelet keeps the files in a hidden directory that it can swap, and links to them.
func readTree(root string, links int) ([]iso.File, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open the volume: %w", err)
	}
	defer dir.Close()
	var files []iso.File
	total := 0
	err = fs.WalkDir(dir.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), "..") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := dir.Stat(p); err != nil || !info.Mode().IsRegular() {
			return err
		}
		if len(files) == iso.MaxFiles {
			return invalidf("it holds more than %d files", iso.MaxFiles)
		}
		content, err := readFile(dir, p, maxFile)
		if total += len(content); total > iso.MaxBytes {
			return invalidf("its files have more than %d MiB together", iso.MaxBytes>>20)
		}
		files = append(files, iso.File{Path: p, Content: content})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the volume: %w", err)
	}
	return linkedDirs(dir, files, links)
}

// linkedDirs adds the files of directories that are links themselves (keys with a path, "a/b"): WalkDir does not enter links.
func linkedDirs(dir *os.Root, files []iso.File, links int) ([]iso.File, error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("read the volume: %w", err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 || strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if info, err := dir.Stat(e.Name()); err != nil || !info.IsDir() {
			continue
		}
		if links == 0 {
			return nil, invalidf("links between its directories are nested too deep")
		}
		sub, err := dir.OpenRoot(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read the volume: %w", err)
		}
		more, err := readTree(sub.Name(), links-1)
		_ = sub.Close()
		if err != nil {
			return nil, err
		}
		for _, f := range more {
			files = append(files, iso.File{Path: path.Join(e.Name(), f.Path), Content: f.Content})
		}
	}
	return files, nil
}

func readFile(dir *os.Root, name string, limit int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(content)) > limit {
		return nil, invalidf("%s is larger than %d KiB", name, limit>>10)
	}
	return content, nil
}

func fileContent(f wire.ISOFile) ([]byte, error) {
	content := f.Content
	if f.From != "" {
		dir, err := os.OpenRoot(filepath.Dir(f.From))
		if err != nil {
			return nil, fmt.Errorf("open the volume: %w", err)
		}
		defer dir.Close()
		if content, err = readFile(dir, filepath.Base(f.From), maxFile); err != nil {
			return nil, fmt.Errorf("read the content of %s: %w", f.Path, err)
		}
	}
	if !f.Base64 {
		return content, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(content)), ""))
	if err != nil {
		return nil, invalidf("the content of %s is not base64: %w", f.Path, err)
	}
	return decoded, nil
}

// metadata is the file in which cloud-init finds who the machine is.
func metadata(c *wire.CloudInit) (iso.File, error) {
	keys, err := publicKeys(c.KeyDirs)
	if err != nil {
		return iso.File{}, err
	}
	name, value := "meta-data", any(noCloud{c.InstanceType, c.InstanceID, c.Hostname, keys})
	if c.Type == "configdrive" {
		name, value = "openstack/latest/meta_data.json", configDrive{c.InstanceType, c.InstanceID, c.Hostname, c.UUID, c.Devices, keys}
	} else if c.Type != "nocloud" {
		return iso.File{}, invalidf("this launcher does not know cloud-init of type %q", c.Type)
	}
	content, err := json.Marshal(value)
	if err != nil {
		return iso.File{}, fmt.Errorf("write cloud-init's metadata: %w", err)
	}
	return iso.File{Path: name, Content: content}, nil
}

// noCloud is https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html as KubeVirt fills it.
type noCloud struct {
	InstanceType string            `json:"instance-type,omitempty"`
	InstanceID   string            `json:"instance-id"`
	Hostname     string            `json:"local-hostname,omitempty"`
	PublicKeys   map[string]string `json:"public-keys,omitempty"`
}

// configDrive is OpenStack's metadata as KubeVirt fills it.
type configDrive struct {
	InstanceType string                 `json:"instance_type,omitempty"`
	InstanceID   string                 `json:"instance_id"`
	Hostname     string                 `json:"hostname,omitempty"`
	UUID         string                 `json:"uuid,omitempty"`
	Devices      []wire.CloudInitDevice `json:"devices,omitempty"`
	PublicKeys   map[string]string      `json:"public_keys,omitempty"`
}

// publicKeys numbers the keys of access credentials as cloud-init likes them.
func publicKeys(dirs []string) (map[string]string, error) {
	list, err := credential.PublicKeys(dirs...)
	if wire.CodeOf(err) == wire.CodeInvalid {
		return nil, invalid{err}
	}
	keys := make(map[string]string, len(list))
	for i, key := range list {
		keys[strconv.Itoa(i)] = key
	}
	return keys, err
}
