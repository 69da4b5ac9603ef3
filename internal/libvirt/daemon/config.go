// Package daemon runs libvirt's QEMU daemon in session mode, as a child of the launcher.
package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"virtctl/internal/libvirt/layout"
)

// Dirs are the directories the daemon writes to.
type Dirs struct {
	// Home is HOME; Cache, Runtime and Config are the XDG directories; Temp is TMPDIR.
	Home, Cache, Runtime, Config, Temp string
}

// program is one way libvirt is packaged.
type program struct{ path, socket, admin, conf string }

// Debian ships only the monolithic daemon, which loads the same QEMU driver; others ship the modular one.
func programs() []program {
	return []program{
		{"/usr/sbin/virtqemud", "virtqemud-sock", "virtqemud-admin-sock", "virtqemud.conf"},
		{"/usr/sbin/libvirtd", "libvirt-sock", "libvirt-admin-sock", "libvirtd.conf"},
	}
}

func findProgram() (program, error) {
	for _, p := range programs() {
		if info, err := os.Stat(p.path); err == nil && info.Mode().IsRegular() {
			return p, nil
		}
	}
	return program{}, errors.New("neither /usr/sbin/virtqemud nor /usr/sbin/libvirtd exists; the launcher image is incomplete, build it again")
}

// qemuConf: QEMU writes its own log (no virtlogd); nothing that needs privileges is tried; the pod is the only confinement.
//
// capability_filters: with this capability libvirt reads every CPU property of a new QEMU one by one, some 470 round trips and
// two thirds of a domain's start time. Without it libvirt reads the same facts as two CPUID feature lists.
//
// shared_filesystems: libvirt knows NFS, Ceph and the like by their type and calls a migration without copying unsafe on any other. A
// claim's access mode says more, and the platform moves a guest with a claim only if that is ReadWriteMany. An image of files (of a
// ConfigMap, say) need not be copied either, although a SATA disk cannot be called read-only: the target has made its own.
func qemuConf() string {
	return qemuSettings + fmt.Sprintf("shared_filesystems = [ \"%s\" ]\n", strings.Join(append(layout.ISODirs(), layout.ClaimsDir), `", "`))
}

const qemuSettings = `stdio_handler = "file"
security_driver = "none"
security_default_confined = 0
namespaces = []
cgroup_controllers = []
dynamic_ownership = 0
remember_owner = 0
seccomp_sandbox = 1
keepalive_interval = -1
capability_filters = [ "cpu-unavailable-features" ]
`

// daemonConf: few threads, no keepalive timers (the client is on the same machine).
const daemonConf = `min_workers = 2
max_workers = 20
prio_workers = 1
admin_min_workers = 1
admin_max_workers = 1
keepalive_interval = -1
admin_keepalive_interval = -1
`

// maxFilters bounds the list of log filters, in bytes.
const maxFilters = 1000

// CheckLogFilters refuses what libvirt would not start with, or what would be more than filters in its configuration.
func CheckLogFilters(filters string) error {
	if len(filters) > maxFilters || !regexp.MustCompile(`^([1-4]:[A-Za-z0-9_.*+-]+ ?)*$`).MatchString(filters) {
		return fmt.Errorf("libvirt's log filters %q are no such list: write LEVEL:NAME, separated by spaces, for example \"1:qemu 3:*\"", filters)
	}
	return nil
}

// logConf sends warnings to stderr, or what the filters say.
func logConf(filters string) (string, error) {
	if filters == "" {
		return "log_outputs = \"3:stderr\"\n", nil
	}
	return "log_outputs = \"1:stderr\"\nlog_filters = \"" + filters + "\"\n", CheckLogFilters(filters)
}

// writeConfig writes the daemon's configuration below dirs.Config and makes all directories.
func writeConfig(dirs Dirs, p program, filters string) (confPath string, err error) {
	logging, err := logConf(filters)
	if err != nil {
		return "", err
	}
	conf := filepath.Join(dirs.Config, "libvirt")
	for _, dir := range []string{dirs.Home, dirs.Cache, dirs.Runtime, dirs.Temp, conf, filepath.Join(dirs.Runtime, "libvirt")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("prepare libvirt's directories: %w", err)
		}
	}
	id, err := hostUUID(filepath.Join(conf, "host-uuid"))
	if err != nil {
		return "", err
	}
	confPath = filepath.Join(conf, p.conf)
	settings := logging + daemonConf + "host_uuid = \"" + id + "\"\n"
	for path, content := range map[string]string{filepath.Join(conf, "qemu.conf"): qemuConf(), confPath: settings} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return "", fmt.Errorf("write libvirt's configuration: %w", err)
		}
	}
	return confPath, nil
}

// hostUUID is who this pod is to libvirt, which refuses a migration between two hosts of one name. It stays for the pod's life.
func hostUUID(path string) (string, error) {
	if known, err := os.ReadFile(path); err == nil && len(known) == 36 {
		return string(known), nil
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make the host's uuid: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	if err := os.WriteFile(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("write libvirt's configuration: %w", err)
	}
	return id, nil
}

// environment is all the daemon sees. One malloc arena saves a quarter of its memory. libvirt looks its own host name up when it
// starts or migrates a domain. Kubelet writes the name to /etc/hosts; where that does not answer and DNS is down, these resolver
// options bound each look-up to one query of one second.
func environment(dirs Dirs) []string {
	return []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + dirs.Home,
		"TMPDIR=" + dirs.Temp,
		"XDG_CACHE_HOME=" + dirs.Cache,
		"XDG_RUNTIME_DIR=" + dirs.Runtime,
		"XDG_CONFIG_HOME=" + dirs.Config,
		"MALLOC_ARENA_MAX=1",
		"RES_OPTIONS=timeout:1 attempts:1 ndots:1 no-tld-query",
		"LOCALDOMAIN=invalid",
	}
}

// CapabilitiesDir is where the daemon caches what QEMU can do.
func (d Dirs) CapabilitiesDir() string {
	return filepath.Join(d.Cache, "libvirt", "qemu", "cache", "capabilities")
}

// LogFile is QEMU's own log for a domain.
func (d Dirs) LogFile(domain string) string {
	return filepath.Join(d.Cache, "libvirt", "qemu", "log", domain+".log")
}

// PIDFile holds QEMU's process id.
func (d Dirs) PIDFile(domain string) string {
	return filepath.Join(d.Runtime, "libvirt", "qemu", "run", domain+".pid")
}

// WriteCapabilities lays down a capabilities cache made by an earlier probe on this node. Files that exist already stay.
func (d Dirs) WriteCapabilities(files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(d.CapabilitiesDir(), 0o700); err != nil {
		return fmt.Errorf("write the capabilities cache: %w", err)
	}
	for name, content := range files {
		if name != filepath.Base(name) || !strings.HasSuffix(name, ".xml") || strings.HasPrefix(name, ".") {
			return fmt.Errorf("write the capabilities cache: bad file name %q", name)
		}
		path := filepath.Join(d.CapabilitiesDir(), name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			return fmt.Errorf("write the capabilities cache: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write the capabilities cache: %w", err)
		}
	}
	return nil
}
