package probe

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/daemon"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/process"
	"virtctl/internal/libvirt/session"
)

const kvmDevice = "/dev/kvm"

// stage is one look at QEMU, with or without KVM.
type stage struct {
	Variant, Work  string
	Kernel, Initrd string
	Timeout        time.Duration
}

// StageCommand is the hidden subcommand a stage runs as; its argument is the stage in JSON.
const StageCommand = "probe-stage"

// spawn runs the stage as a program in new namespaces.
func (s stage) spawn(ctx context.Context, reaper *process.Reaper) error {
	arg, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("start the probe: %w", err)
	}
	child, err := reaper.Start(process.Command{
		Path: "/proc/self/exe", Args: []string{StageCommand, string(arg)}, Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr},
		Namespaces: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	select {
	case <-child.Done():
	case <-ctx.Done():
		reaper.Signal(child, syscall.SIGKILL)
		<-child.Done()
		return fmt.Errorf("the probe took more than %s", stageTimeout)
	}
	if exit := child.Exit(); !exit.Status.Exited() || exit.Status.ExitStatus() != 0 {
		return fmt.Errorf("the probe (%s) %s; see its messages above", s.Variant, exit)
	}
	return nil
}

// RunStage is the program that spawn starts: PID 1 of its namespaces, root until the mounts are made.
func RunStage(ctx context.Context, arg string, stderr io.Writer) error {
	var s stage
	if err := json.Unmarshal([]byte(arg), &s); err != nil {
		return fmt.Errorf("read the stage: %w", err)
	}
	if err := s.confine(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reaper := process.NewReaper()
	go reaper.Run(ctx)
	return s.run(ctx, reaper, stderr)
}

// confine gives the stage its own /proc and either its own, accessible /dev/kvm or none, and drops root. Nothing of it is seen
// outside.
func (s stage) confine() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("confine the probe: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("confine the probe: mount /proc: %w", err)
	}
	var device unix.Stat_t
	if err := unix.Stat(kvmDevice, &device); err == nil {
		// A filesystem of our own: the work directory may be on one that has no devices.
		own := filepath.Join(s.Work, "dev")
		if err := errors.Join(os.Mkdir(own, 0o755), unix.Mount("tmpfs", own, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755")); err != nil {
			return fmt.Errorf("confine the probe: %w", err)
		}
		node, mode := filepath.Join(own, "kvm"), uint32(unix.S_IFREG)
		if s.Variant == variantKVM {
			mode = unix.S_IFCHR | 0o600
		}
		if err := unix.Mknod(node, mode, int(device.Rdev)); err != nil {
			return fmt.Errorf("confine the probe: make a KVM device: %w", err)
		}
		if s.Variant == variantKVM {
			if err := os.Chown(node, layout.UID, layout.UID); err != nil {
				return fmt.Errorf("confine the probe: %w", err)
			}
		}
		if err := unix.Mount(node, kvmDevice, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("confine the probe: %w", err)
		}
	}
	for _, drop := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(layout.UID) },
		func() error { return syscall.Setuid(layout.UID) },
	} {
		if err := drop(); err != nil {
			return fmt.Errorf("confine the probe: %w", err)
		}
	}
	return nil
}

// run looks and leaves its findings in the work directory.
func (s stage) run(ctx context.Context, reaper *process.Reaper, stderr io.Writer) error {
	var result Result
	if s.Variant == variantKVM {
		if err := s.bootWithKVM(ctx, reaper); err != nil {
			result.Reason = err.Error()
			return s.write(result)
		}
		result.KVM = true
	}
	dirs := daemon.Dirs{
		Home: s.Work, Cache: filepath.Join(s.Work, "c"), Runtime: filepath.Join(s.Work, "r"),
		Config: filepath.Join(s.Work, "f"), Temp: filepath.Join(s.Work, "t"),
	}
	d, err := daemon.Start(ctx, daemon.Options{Dirs: dirs, Reaper: reaper, Stderr: stderr})
	if err != nil {
		return err
	}
	defer func() { d.Kill(); <-d.Done() }()
	client, err := session.Open(d.Socket, func(session.Event) {})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := s.ask(client, &result); err != nil {
		return err
	}
	if err := os.Rename(dirs.CapabilitiesDir(), filepath.Join(s.Work, CacheDir(s.Variant))); err != nil {
		return fmt.Errorf("keep libvirt's findings: %w", err)
	}
	return s.write(result)
}

func (s stage) ask(client *session.Session, result *Result) error {
	virtType := "qemu"
	if s.Variant == variantKVM {
		virtType = "kvm"
	}
	domain, err := client.DomainCapabilities("", "", virtType)
	if err != nil {
		return err
	}
	host, err := client.Capabilities()
	if err != nil {
		return err
	}
	result.LibvirtVersion, result.QEMUVersion = client.Versions()
	if err := result.read(domain, host); err != nil {
		return err
	}
	for name, content := range map[string]string{DomainCapabilities(s.Variant): domain, HostCapabilities: host} {
		if err := os.WriteFile(filepath.Join(s.Work, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("keep libvirt's findings: %w", err)
		}
	}
	return nil
}

func (s stage) write(result Result) error {
	raw, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("keep libvirt's findings: %w", err)
	}
	return os.WriteFile(filepath.Join(s.Work, ResultFile), raw, 0o644)
}

// read takes the lists out of libvirt's documents.
func (r *Result) read(domain, host string) error {
	var d struct {
		Arch string `xml:"arch"`
		CPU  struct {
			Modes []struct {
				Name   string `xml:"name,attr"`
				Models []struct {
					Name   string `xml:",chardata"`
					Usable string `xml:"usable,attr"`
				} `xml:"model"`
			} `xml:"mode"`
		} `xml:"cpu"`
	}
	if err := xml.Unmarshal([]byte(domain), &d); err != nil {
		return fmt.Errorf("read libvirt's domain capabilities: %w", err)
	}
	var h struct {
		Guests []struct {
			Arch struct {
				Name     string `xml:"name,attr"`
				Machines []struct {
					Name      string `xml:",chardata"`
					Canonical string `xml:"canonical,attr"`
				} `xml:"machine"`
			} `xml:"arch"`
		} `xml:"guest"`
	}
	if err := xml.Unmarshal([]byte(host), &h); err != nil {
		return fmt.Errorf("read libvirt's capabilities: %w", err)
	}
	r.Arch, r.Machines, r.CPUModels = d.Arch, []string{}, []string{}
	for _, g := range h.Guests {
		if g.Arch.Name != r.Arch {
			continue
		}
		for _, m := range g.Arch.Machines {
			r.Machines = append(r.Machines, m.Name)
		}
	}
	for _, mode := range d.CPU.Modes {
		for _, m := range mode.Models {
			if mode.Name == "custom" && m.Usable == "yes" {
				r.CPUModels = append(r.CPUModels, m.Name)
			}
		}
	}
	slices.Sort(r.Machines)
	r.Machines = slices.Compact(r.Machines)
	slices.Sort(r.CPUModels)
	return nil
}
