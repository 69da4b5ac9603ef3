// Package probe finds out, once on each node, what the launcher image's QEMU can do there: for virt-handler, which tells the cluster,
// and for every later launcher, which is given libvirt's findings and need not look again.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/process"
)

// The files of a probe, below its output directory. <variant> is "tcg" or "kvm"; the latter only exists when KVM is usable.
const (
	// ResultFile is a Result in JSON. It is written last.
	ResultFile = "probe.json"
	// HostCapabilities is libvirt's document about the host.
	HostCapabilities = "capabilities.xml"
)

// DomainCapabilities is libvirt's document about domains of a variant.
func DomainCapabilities(variant string) string { return "domcapabilities-" + variant + ".xml" }

// CacheDir holds libvirt's capability cache for pods of a variant: what PrepareRequest.CapabilitiesCache carries.
func CacheDir(variant string) string { return "cache-" + variant }

const (
	variantTCG = "tcg"
	variantKVM = "kvm"
	// stageTimeout bounds one look at QEMU, which takes a second.
	stageTimeout = 2 * time.Minute
	// maxFile bounds what is copied from a stage.
	maxFile = 8 << 20
	// workDir is short: it is part of unix socket paths.
	workDir = ".w"
)

// Result is what a probe found.
type Result struct {
	// KVM tells that a guest really ran with hardware virtualization; Reason says why not.
	KVM    bool   `json:"kvm"`
	Reason string `json:"reason,omitempty"`
	Arch   string `json:"arch"`
	// Machines are the machine types QEMU knows, CPUModels the models it can run here with the best accelerator.
	Machines       []string `json:"machines"`
	CPUModels      []string `json:"cpuModels"`
	LibvirtVersion string   `json:"libvirtVersion,omitempty"`
	QEMUVersion    string   `json:"qemuVersion,omitempty"`
}

// Options say what to probe.
type Options struct {
	Out string
	// Report is a file for a Summary, for example a container's termination message; none if empty.
	Report string
	// Kernel is booted to try KVM, with an initrd of our own unless Initrd is set, which must print Marker.
	Kernel, Initrd string
	KVMTimeout     time.Duration
	Stderr         io.Writer
}

// Run probes and writes the files.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := filepath.Join(o.Out, workDir)
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o755)); err != nil {
		return fmt.Errorf("prepare the probe: %w", err)
	}
	defer os.RemoveAll(work)
	reaper := process.NewReaper()
	go reaper.Run(ctx)
	var result Result
	if err := o.stage(ctx, reaper, variantTCG, &result); err != nil {
		return err
	}
	result.KVM, result.Reason = o.tryKVM(ctx, reaper, &result)
	raw, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return fmt.Errorf("write the probe's result: %w", err)
	}
	if err := replace(filepath.Join(o.Out, ResultFile), raw); err != nil {
		return err
	}
	return o.report(result)
}

// Summary is the part of a Result that `virtctl check --pre` shows.
type Summary struct {
	KVM    bool   `json:"kvm"`
	Reason string `json:"reason,omitempty"`
}

// maxReason keeps a summary below the 4096 bytes of a termination message, escapes included.
const maxReason = 500

// report writes a summary. The file exists already and is somebody's mount: it is not replaced.
func (o Options) report(result Result) error {
	if o.Report == "" {
		return nil
	}
	s := Summary{KVM: result.KVM, Reason: result.Reason}
	if len(s.Reason) > maxReason {
		s.Reason = s.Reason[:maxReason]
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("report the probe's result: %w", err)
	}
	if err := os.WriteFile(o.Report, raw, 0o600); err != nil {
		return fmt.Errorf("report the probe's result: %w", err)
	}
	return nil
}

func (o Options) tryKVM(ctx context.Context, reaper *process.Reaper, result *Result) (bool, string) {
	if _, err := os.Stat(kvmDevice); err != nil {
		return false, "there is no /dev/kvm"
	}
	if os.Geteuid() != 0 {
		return false, "only a privileged probe tries /dev/kvm"
	}
	var withKVM Result
	if err := o.stage(ctx, reaper, variantKVM, &withKVM); err != nil {
		return false, err.Error()
	}
	if !withKVM.KVM {
		return false, withKVM.Reason
	}
	*result = withKVM
	return true, ""
}

// stage runs one look in its own namespaces, as the user launchers run as, and copies what it found.
func (o Options) stage(ctx context.Context, reaper *process.Reaper, variant string, result *Result) error {
	work := filepath.Join(o.Out, workDir, variant)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("prepare the probe: %w", err)
	}
	s := stage{Variant: variant, Work: work, Kernel: o.Kernel, Initrd: o.Initrd, Timeout: o.KVMTimeout}
	if os.Geteuid() == 0 {
		if err := os.Chown(work, layout.UID, layout.UID); err != nil {
			return fmt.Errorf("prepare the probe: %w", err)
		}
		if err := s.spawn(ctx, reaper); err != nil {
			return err
		}
	} else if err := s.run(ctx, reaper, o.Stderr); err != nil {
		return err
	}
	root, err := os.OpenRoot(work)
	if err != nil {
		return fmt.Errorf("read what the probe found: %w", err)
	}
	defer root.Close()
	raw, err := readFile(root, ResultFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("read what the probe found: %w", err)
	}
	if variant == variantKVM && !result.KVM {
		return nil
	}
	return o.collect(root, variant)
}

// collect copies the documents and the cache.
func (o Options) collect(root *os.Root, variant string) error {
	for _, name := range []string{HostCapabilities, DomainCapabilities(variant)} {
		raw, err := readFile(root, name)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(o.Out, name), raw); err != nil {
			return err
		}
	}
	cache, err := fs.ReadDir(root.FS(), CacheDir(variant))
	if err != nil {
		return fmt.Errorf("read what the probe found: %w", err)
	}
	dir := filepath.Join(o.Out, CacheDir(variant))
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("write what the probe found: %w", err)
	}
	for _, e := range cache {
		raw, err := readFile(root, filepath.Join(CacheDir(variant), e.Name()))
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(dir, e.Name()), raw); err != nil {
			return err
		}
	}
	return nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read what the probe found: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("read what the probe found (%s): %w", name, err)
	}
	return raw, nil
}

// replace writes a file at once, readable for everyone.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return fmt.Errorf("write what the probe found: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write what the probe found: %w", err)
	}
	return nil
}
