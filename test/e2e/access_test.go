//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestShellAndFiles: with nothing but permissions on the API, a user has a shell in a machine and moves files both ways.
func TestShellAndFiles(t *testing.T) {
	j := start(t)
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	// Its probes ask the guest's agent, which the demo guest has.
	probes := "      readinessProbe: {exec: {command: [uname, -s]}, periodSeconds: 2, timeoutSeconds: 10}\n" +
		"      livenessProbe: {guestAgentPing: {}, periodSeconds: 3, timeoutSeconds: 10, failureThreshold: 40}\n"
	j.kubectlIn(strings.Replace(j.demo("shell", "--user", "root", "--ssh-key", string(public)), "      domain:\n", probes+"      domain:\n", 1), "apply", "-f", "-")
	j.virtctl("wait", "shell", "--for", "ready", "--timeout", "120s")
	j.guestTells("shell")
	// Host keys are made anew for each guest: nothing is remembered of them.
	flags := []string{"-i", key, "-t", "-o StrictHostKeyChecking=no", "-t", "-o UserKnownHostsFile=/dev/null", "-t", "-o LogLevel=ERROR"}
	remote := func(args ...string) []string { return append(args, flags...) }

	j.want("a command's output", j.virtctl(remote("ssh", "root@vm/shell", "--command", "uname")...), "Linux\n")
	if r := j.try("", remote("ssh", "root@vm/shell", "--command", "exit 7")...); r.Code != 7 {
		t.Errorf("a command that ends with 7 ended with %d\n%s", r.Code, r.Stderr)
	}
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	const text = "carried there and back\n"
	if err := os.WriteFile(there, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j.virtctl(remote("scp", there, "root@vm/shell:/tmp/file")...)
	j.virtctl(remote("scp", "root@vm/shell:/tmp/file", back)...)
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	j.want("the file that came back", string(got), text)
	j.refused(3, `there is no virtual machine "nobody"`, "port-forward", "vm/nobody", "0:22")
}

// TestUSBDevicesReachTheGuest: what a client of USB redirection connects to is QEMU itself, which greets it.
func TestUSBDevicesReachTheGuest(t *testing.T) {
	j := start(t)
	j.kubectlIn(strings.Replace(j.demo("usb"), "devices: {}", "devices: {clientPassthrough: {}}", 1), "apply", "-f", "-")
	j.virtctl("wait", "usb", "--for", "running", "--timeout", "60s")
	for range 2 { // a place that was used can be used again
		j.greetedByQEMU("usb")
	}
}

func (j *journey) greetedByQEMU(name string) {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := shared.Program(ctx, "virtctl", "-n", j.namespace, "usbredir", name, "--no-launch")
	out, err := cmd.StdoutPipe()
	if err != nil {
		j.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		j.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		j.Fatalf("usbredir says %q: %v", line, err)
	}
	fields := strings.Fields(line)
	conn, err := net.Dial("tcp", fields[len(fields)-1])
	if err != nil {
		j.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	var said []byte
	buffer := make([]byte, 256)
	for !bytes.Contains(said, []byte("qemu usb-redir guest")) {
		n, err := conn.Read(buffer)
		if err != nil {
			j.Fatalf("the machine greets with %q: %v", said, err)
		}
		said = append(said, buffer[:n]...)
	}
}

// guestTells asks what only the guest's agent knows.
func (j *journey) guestTells(name string) {
	j.Helper()
	j.kubectl("wait", "vmi/"+name, "--for=condition=AgentConnected", "--timeout=60s")
	for command, want := range map[string]string{"guestosinfo": `"hostname": "` + name + `"`, "userlist": "items", "fslist": "items"} {
		if out := j.virtctl(command, name, "-o", "json"); !strings.Contains(out, want) {
			j.Errorf("%s does not tell %s:\n%s", command, want, out)
		}
	}
}
