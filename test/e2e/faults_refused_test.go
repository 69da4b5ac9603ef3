//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWhatIsNotThereIsSaid: unknown machines, stopped machines and missing devices are clear errors at once, each with its exit code.
func TestWhatIsNotThereIsSaid(t *testing.T) {
	j := start(t)
	picture := t.TempDir() + "/x.png"
	for _, args := range [][]string{
		{"start", "nobody"},
		{"stop", "nobody"},
		{"console", "nobody"},
		{"describe", "nobody"},
		{"pause", "vm", "nobody"},
		{"vnc", "screenshot", "nobody", "-f", picture},
		{"stop", "nobody", "-n", "nowhere"},
	} {
		j.refused(3, `there is no virtual machine "nobody"`, args...)
	}
	j.kubectlIn(j.demo("still", "--run-strategy", "Halted"), "apply", "-f", "-")
	for _, args := range [][]string{
		{"console", "still"},
		{"vnc", "still", "--proxy-only"},
		{"vnc", "screenshot", "still", "-f", picture},
		{"pause", "vm", "still"},
		{"stop", "still"},
	} {
		j.refused(5, "not running", args...)
	}
	bare := strings.Replace(j.demo("bare"), "devices: {}", "devices: {autoattachSerialConsole: false, autoattachGraphicsDevice: false}", 1)
	j.kubectlIn(bare, "apply", "-f", "-")
	j.virtctl("wait", "bare", "--for", "running", "--timeout", "60s")
	j.refused(9, "No serial consoles are present", "console", "bare")
	j.refused(9, "No graphics devices are present", "vnc", "bare", "--proxy-only")
}

// TestForbidden: a missing permission is named, with the role that has it.
func TestForbidden(t *testing.T) {
	j := start(t)
	j.kubectl("create", "serviceaccount", "guest")
	as := "system:serviceaccount:" + j.namespace + ":guest"
	j.kubectlIn(j.demo("secret", "--run-strategy", "Halted"), "apply", "-f", "-")
	j.refused(4, `cannot update resource "virtualmachines/start"`, "start", "secret", "--as", as)
	j.refused(4, "ClusterRole kubevirt.io:edit", "start", "secret", "--as", as)
	j.refused(4, `cannot get resource "virtualmachineinstances/console"`, "console", "secret", "--as", as)
	j.refused(4, "ClusterRole kubevirt.io:view", "get", "vms", "--as", as)
	j.kubectl("create", "rolebinding", "guest", "--clusterrole", "view", "--serviceaccount", j.namespace+":guest")
	j.virtctl("get", "vms", "--as", as)
	j.refused(4, "cannot update", "start", "secret", "--as", as)
	j.kubectl("create", "rolebinding", "guest-edits", "--clusterrole", "edit", "--serviceaccount", j.namespace+":guest")
	j.virtctl("start", "secret", "--dry-run", "--as", as)
}

// TestWhoCannotGetIn: credentials that have expired and a server that does not answer are told apart, each with its exit code.
func TestWhoCannotGetIn(t *testing.T) {
	j := start(t)
	expired := j.kubeconfigOf(j.expiredToken())
	for _, args := range [][]string{{"get", "vms"}, {"start", "x"}, {"console", "x"}} {
		j.refused(4, "were refused; they may have expired", append(args, "--kubeconfig", expired)...)
	}
	// Nobody listens at port 1 of this machine.
	for _, args := range [][]string{{"get", "vms"}, {"start", "x"}, {"describe", "x"}} {
		j.refused(7, "cannot be reached", append(args, "--server", "https://127.0.0.1:1")...)
	}
}

// expiredToken is a token that the cluster itself could have given out an hour ago, for half of one.
func (j *journey) expiredToken() string {
	j.Helper()
	fresh := j.kubectl("create", "token", "default", "--duration", "10m")
	parts := strings.Split(fresh, ".")
	if len(parts) != 3 {
		j.Fatalf("a token of %d parts", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		j.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		j.Fatal(err)
	}
	now := time.Now()
	claims["iat"], claims["nbf"], claims["exp"] = now.Add(-time.Hour).Unix(), now.Add(-time.Hour).Unix(), now.Add(-time.Hour/2).Unix()
	if payload, err = json.Marshal(claims); err != nil {
		j.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(j.signed(signed))
}

// signed is the signature (ES256) that the cluster gives its tokens.
func (j *journey) signed(text string) []byte {
	j.Helper()
	file, err := os.ReadFile(filepath.Join(shared.State, "pki", "service-account.key"))
	if err != nil {
		j.Fatal(err)
	}
	block, _ := pem.Decode(file)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		j.Fatal(err)
	}
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		j.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

// TestInvalidMachines: what cannot work is refused when it is applied, with the path of the field.
func TestInvalidMachines(t *testing.T) {
	j := start(t)
	for name, wrong := range map[string]struct{ domain, rest, says string }{
		"disk bus":      {"devices: {disks: [{name: d, disk: {bus: floppy}}]}", "volumes: [{name: d, emptyDisk: {capacity: 1Gi}}]", "disks[0].disk.bus"},
		"boot order":    {"devices: {disks: [{name: d, bootOrder: 1, disk: {}}, {name: e, bootOrder: 1, disk: {}}]}", "volumes: [{name: d, emptyDisk: {capacity: 1Gi}}, {name: e, emptyDisk: {capacity: 1Gi}}]", "disks[1].bootOrder"},
		"no volume":     {"devices: {disks: [{name: d, disk: {}}]}", "", "disks[0].name"},
		"two sources":   {"devices: {}", "volumes: [{name: d, emptyDisk: {capacity: 1Gi}, containerDisk: {image: x}}]", "volumes[0]"},
		"machine type":  {"machine: {type: pc-none}", "", "machine.type"},
		"no memory":     {"memory: {guest: \"0\"}", "", "memory"},
		"no cpu":        {"resources: {requests: {cpu: \"-1\"}}", "", "resources.requests.cpu"},
		"no network":    {"devices: {interfaces: [{name: net, masquerade: {}}]}", "", "interfaces[0].name"},
		"no interface":  {"devices: {}", "networks: [{name: net, pod: {}}]", "networks[0].name"},
		"host name":     {"devices: {}", "hostname: not_a_name", "hostname"},
		"unknown field": {"devices: {floppies: []}", "", "floppies"},
		"no key source": {"devices: {}", "accessCredentials: [{sshPublicKey: {source: {}, propagationMethod: {noCloud: {}}}}]", "accessCredentials[0]"},
	} {
		r := j.kubectlTry(machine("wrong", wrong.domain, wrong.rest), "create", "-f", "-")
		if r.Code == 0 || !strings.Contains(r.Stderr, wrong.says) {
			t.Errorf("%s: exit code %d, want a refusal that names %q\n%s%s", name, r.Code, wrong.says, r.Stdout, r.Stderr)
		}
	}
	r := j.kubectlTry(machine(strings.Repeat("n", 254), "devices: {}", ""), "create", "-f", "-")
	if r.Code == 0 || !strings.Contains(r.Stderr, "metadata.name") {
		t.Errorf("a name that is too long: exit code %d\n%s", r.Code, r.Stderr)
	}
}

// machine is the manifest of a stopped machine, in its domain and beside it what the test is about.
func machine(name, domain, rest string) string {
	if !strings.Contains(domain, "memory:") {
		domain += "\n        memory: {guest: 64Mi}"
	}
	return fmt.Sprintf(`apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: %s
spec:
  runStrategy: Halted
  template:
    spec:
      domain:
        %s
      %s
`, name, domain, rest)
}

// TestKindsWithoutMeaningAreRefused: what nothing acts on is not taken, and can be listed all the same, as clients that tidy up do.
func TestKindsWithoutMeaningAreRefused(t *testing.T) {
	j := start(t)
	for _, kind := range []struct{ version, kind, plural string }{
		{"pool.kubevirt.io/v1beta1", "VirtualMachinePool", "virtualmachinepools"},
		{"snapshot.kubevirt.io/v1beta1", "VirtualMachineSnapshot", "virtualmachinesnapshots"},
		{"snapshot.kubevirt.io/v1beta1", "VirtualMachineSnapshotContent", "virtualmachinesnapshotcontents"},
		{"snapshot.kubevirt.io/v1beta1", "VirtualMachineRestore", "virtualmachinerestores"},
		{"clone.kubevirt.io/v1beta1", "VirtualMachineClone", "virtualmachineclones"},
		{"export.kubevirt.io/v1", "VirtualMachineExport", "virtualmachineexports"},
		{"export.kubevirt.io/v1beta1", "VirtualMachineExport", "virtualmachineexports"},
		{"backup.kubevirt.io/v1alpha1", "VirtualMachineBackup", "virtualmachinebackups"},
		{"backup.kubevirt.io/v1alpha1", "VirtualMachineBackupTracker", "virtualmachinebackuptrackers"},
	} {
		r := j.kubectlTry(fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"x"},"spec":{"source":{"name":"web"}}}`, kind.version, kind.kind), "create", "-f", "-")
		if r.Code == 0 || !strings.Contains(r.Stderr, "nothing here acts on a "+kind.kind) {
			t.Errorf("%s of %s: %+v", kind.kind, kind.version, r)
		}
		group, version, _ := strings.Cut(kind.version, "/")
		j.want("list of "+kind.plural, j.kubectl("get", kind.plural+"."+version+"."+group, "-o", "name"), "")
		j.kubectl("delete", kind.plural+"."+version+"."+group, "--all")
	}
}
