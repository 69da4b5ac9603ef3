//go:build guest

// Tests of the demo guest in bare QEMU. They need `make images` and take about a minute:
//
//	go test -tags guest ./images/demo
package demo_test

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A user sees a prompt within seconds, logs in, and finds the guest on the network.
func TestBootsAndServes(t *testing.T) {
	m := start(t, options{})
	first := m.await(`\S`)
	kernel := m.await(`demo guest: starting`)
	m.await(`Welcome to the demo guest`)
	m.login()
	t.Logf("first line after %v, init after %v, logged in after %v", first.Round(10*time.Millisecond), kernel.Round(10*time.Millisecond), time.Since(m.started).Round(10*time.Millisecond))

	if got := m.run("hostname"); got != "demo" {
		t.Errorf("host name %q", got)
	}
	free, err := strconv.Atoi(m.run(`awk '/MemAvailable/ {print $2}' /proc/meminfo`))
	must(t, err)
	t.Logf("%d KiB of 128 MiB available", free)
	if free < 24<<10 {
		t.Errorf("only %d KiB left of 128 MiB", free)
	}
	if got := m.run("pidof udhcpc udhcpc6 | wc -w"); got != "2" {
		t.Errorf("%s DHCP clients look after the addresses, want one for IPv4 and one for IPv6", got)
	}
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", m.http))
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if page := string(body); !strings.Contains(page, "hostname demo\n") || !strings.Contains(page, "uptime ") {
		t.Errorf("web page: %q", page)
	}
	if got := shell(t, m, "demo", ssh.Password("demo"), "id -un"); got != "demo" {
		t.Errorf("over ssh the user is %q", got)
	}
}

// `virtctl stop` presses the power button: the guest must go, and at once.
func TestPowerButton(t *testing.T) {
	m := start(t, options{})
	m.await(`login: `)
	pressed := time.Now()
	m.qmp.do("system_powerdown", nil)
	m.awaitEnd()
	t.Logf("off %v after the button", time.Since(pressed).Round(time.Millisecond))
}

func TestReboots(t *testing.T) {
	m := start(t, options{more: []string{"-no-reboot"}}) // QEMU ends where a machine would start again
	m.login()
	m.serial.send("reboot")
	m.awaitEnd()
}

// Secure Boot is what upstream's default for EFI asks for: the whole chain must be signed.
func TestBootsWithSecureBoot(t *testing.T) {
	firmware, err := filepath.Glob(filepath.Join("..", "..", "out", "cache", "launcher-base", "*", "usr", "share", "OVMF"))
	must(t, err)
	if len(firmware) != 1 {
		t.Fatal("no firmware to boot with: run `make images` first")
	}
	vars := filepath.Join(t.TempDir(), "vars.fd")
	data, err := os.ReadFile(filepath.Join(firmware[0], "OVMF_VARS_4M.ms.fd"))
	must(t, err)
	must(t, os.WriteFile(vars, data, 0o644))
	m := start(t, options{more: []string{
		"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-m", "256",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + filepath.Join(firmware[0], "OVMF_CODE_4M.secboot.fd"),
		"-drive", "if=pflash,unit=1,format=raw,file=" + vars,
	}})
	m.login()
	m.run("dmesg | grep 'Secure boot enabled'")
}

// The kernelBoot image boots without a disk.
func TestKernelBoot(t *testing.T) {
	m := start(t, options{direct: true})
	m.login()
}

// Instance data on a SATA cdrom, in a machine with an Intel network card and its disk on SCSI.
func TestCloudConfigOnOtherHardware(t *testing.T) {
	signer, authorized := newKey(t)
	iso := seedISO(t, "cidata", map[string]string{
		"meta-data": "instance-id: i-1\nlocal-hostname: frommeta\n",
		"user-data": "#cloud-config\nhostname: seeded\npassword: s3cret\nchpasswd: {expire: false}\nssh_authorized_keys:\n- " + authorized +
			"\nwrite_files:\n- path: /etc/hello\n  content: |\n    hello from write_files\n  permissions: '0640'\n" +
			"runcmd:\n- [sh, -c, 'echo words: \"$0\"', 'a b']\n- echo line $(cat /etc/hello) > /dev/ttyS0\n",
	})
	m := start(t, options{disk: "scsi-hd", nic: "e1000e", more: []string{
		"-device", "i6300esb",
		"-drive", "if=none,id=seed,media=cdrom,readonly=on,format=raw,file=" + iso, "-device", "ide-cd,drive=seed",
	}})
	m.await(`line hello from write_files`)
	m.login()
	if got := m.run("hostname; stat -c %a /etc/hello; ls -1 /dev/watchdog /dev/sda /dev/sr0"); got != "seeded\n640\n/dev/sda\n/dev/sr0\n/dev/watchdog" {
		t.Errorf("got %q", got)
	}
	if got := shell(t, m, "root", ssh.PublicKeys(signer), "hostname"); got != "seeded" {
		t.Errorf("over ssh with the key: %q", got)
	}
	if got := shell(t, m, "demo", ssh.Password("s3cret"), "id -un"); got != "demo" {
		t.Errorf("over ssh with the new password: %q", got)
	}
}

// A user's script runs, also from a config drive.
func TestConfigDriveScript(t *testing.T) {
	iso := seedISO(t, "config-2", map[string]string{
		"openstack/latest/meta_data.json": `{"hostname": "drive", "uuid": "u"}`,
		"openstack/latest/user_data":      "#!/bin/sh\necho script on $(hostname)\n",
	})
	m := start(t, options{more: []string{"-drive", "if=virtio,readonly=on,format=raw,file=" + iso}})
	m.await(`script on drive`)
}

// A disk that the cluster attaches to the running guest appears, can be formatted and keeps a file.
func TestHotplugDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "data.raw")
	must(t, os.WriteFile(disk, nil, 0o644))
	must(t, os.Truncate(disk, 32<<20))
	m := start(t, options{more: []string{"-device", "virtio-scsi-pci,id=scsi"}})
	m.login()
	m.qmp.do("blockdev-add", map[string]any{"driver": "file", "node-name": "data", "filename": disk})
	m.qmp.do("device_add", map[string]any{"driver": "scsi-hd", "drive": "data", "bus": "scsi.0", "id": "d", "serial": "data"})
	m.run("until [ -b /dev/sda ]; do :; done")
	m.run("mkfs.ext4 -q /dev/sda && mkdir -p /data && mount /dev/sda /data && echo kept > /data/file && umount /data && mount /dev/sda /data && grep kept /data/file")
}

// A network card that the cluster plugs in gets an address; disks on other buses are there.
func TestOtherDevices(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "data.raw")
	must(t, os.WriteFile(disk, nil, 0o644))
	must(t, os.Truncate(disk, 8<<20))
	m := start(t, options{more: []string{
		"-device", "qemu-xhci", "-drive", "if=none,id=u,format=raw,snapshot=on,file=" + disk, "-device", "usb-storage,drive=u",
		"-drive", "if=none,id=n1,format=raw,snapshot=on,file=" + disk, "-device", "nvme,drive=n1,serial=1",
		"-device", "pcie-root-port,id=rp0,chassis=1,slot=1", "-device", "pvpanic-pci",
	}})
	m.login()
	m.run("until [ -b /dev/sda ] && [ -b /dev/nvme0n1 ]; do :; done")
	m.qmp.do("netdev_add", map[string]any{"type": "user", "id": "late", "net": "10.9.9.0/24"})
	m.qmp.do("device_add", map[string]any{"driver": "virtio-net-pci", "netdev": "late", "bus": "rp0", "id": "card"})
	m.run("until ip -4 addr show dev eth1 2>/dev/null | grep -q 10.9.9.; do :; done")
}

// The cluster asks QEMU's guest agent for addresses, and to shut down.
func TestGuestAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent")
	m := start(t, options{more: []string{
		"-device", "virtio-serial-pci", "-chardev", "socket,id=a,server=on,wait=off,path=" + socket,
		"-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0",
	}})
	m.login()
	m.run("until pidof qemu-ga >/dev/null; do :; done")
	conn, err := net.Dial("unix", socket)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	in := bufio.NewReader(conn)
	ask := func(command string, arguments any) string {
		t.Helper()
		must(t, json.NewEncoder(conn).Encode(map[string]any{"execute": command, "arguments": arguments}))
		line, err := in.ReadString('\n')
		must(t, err)
		return line
	}
	for command, want := range map[string]string{
		"guest-get-osinfo": "virtctl-demo", "guest-network-get-interfaces": "10.0.2.15", "guest-get-host-name": "demo", "guest-get-users": "root",
	} {
		if got := ask(command, map[string]any{}); !strings.Contains(got, want) {
			t.Errorf("%s: %s", command, got)
		}
	}
	if got := ask("guest-set-user-password", map[string]any{"username": "demo", "crypted": false, "password": base64.StdEncoding.EncodeToString([]byte("fresh"))}); !strings.Contains(got, "return") {
		t.Errorf("set a password: %s", got)
	}
	if got := shell(t, m, "demo", ssh.Password("fresh"), "id -un"); got != "demo" {
		t.Errorf("over ssh with the agent's password: %q", got)
	}
	must(t, json.NewEncoder(conn).Encode(map[string]any{"execute": "guest-shutdown"}))
	m.awaitEnd()
}

// shell runs one command in the guest over ssh.
func shell(t *testing.T, m *machine, user string, auth ssh.AuthMethod, command string) string {
	t.Helper()
	client, err := ssh.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.ssh), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
	})
	must(t, err)
	defer client.Close()
	session, err := client.NewSession()
	must(t, err)
	defer session.Close()
	out, err := session.Output(command)
	must(t, err)
	return strings.TrimSpace(string(out))
}

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// seedISO makes the disk on which a cluster hands over instance data.
func seedISO(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, "seed", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(content), 0o644))
	}
	iso := filepath.Join(dir, "seed.iso")
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", label, "-J", "-R", "-o", iso, filepath.Join(dir, "seed")).CombinedOutput()
	if err != nil {
		t.Fatalf("make the seed disk (apt-get install xorriso): %v\n%s", err, out)
	}
	return iso
}
