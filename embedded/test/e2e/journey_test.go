//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/cgroup"
	"virtctl/embedded/internal/options"
)

// memoryLimit is the promise for everything of an idle cluster of one node.
const memoryLimit = 700 << 20

// TestCluster is the life of a cluster: every part needs the one before.
func TestCluster(t *testing.T) {
	m := newMachine(t)
	for _, part := range []struct {
		name string
		run  func(*machine)
	}{
		{"start of one node", (*machine).testStart},
		{"memory", (*machine).testMemory},
		{"refusals", (*machine).testRefusals},
		{"two nodes", (*machine).testTwoNodes},
		{"restricted pod with an image volume", (*machine).testRestricted},
		{"network", (*machine).testNetwork},
		{"volumes", (*machine).testVolumes},
		{"killed components", (*machine).testKilledComponents},
		{"node off, on and cut", (*machine).testNodeFaults},
		{"name service off", (*machine).testDNSFault},
		{"killed server", (*machine).testKilledServer},
		{"nothing left", (*machine).testNothingLeft},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			m.T = t
			part.run(m)
		})
		m.T = t
		if !ok {
			return
		}
	}
}

func (m *machine) testStart() {
	began := time.Now()
	m.run(m.upArgs("1")...)
	// make bench holds this to its promise, on a machine that does nothing else.
	m.Logf("ready after %s", time.Since(began))
	out, err := m.command("up").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "already running") {
		m.Errorf("second up: %s, %v", out, err)
	}
	if version := m.kubectl("version", "-o", "json"); strings.Contains(version, "Format:") {
		m.Errorf("unstamped version: %s", version)
	}
}

// testMemory adds up what the kernel says each process costs, shared pages divided by their users.
func (m *machine) testMemory() {
	m.loadProbe()
	m.kubectl("wait", "--for=condition=Ready", "node", "--all")
	pids := []int{m.status().Pid}
	hs, err := cgroup.Hierarchies()
	if err != nil {
		m.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(hs[0].Path, m.options.CgroupRoot()), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
	var total int
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // ended meanwhile
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				kib, err := strconv.Atoi(fields[1])
				if err != nil {
					m.Fatal(err)
				}
				total += kib << 10
			}
		}
	}
	m.Logf("%d processes, %d MiB PSS", len(pids), total>>20)
	if total > memoryLimit || len(pids) < 10 {
		m.Errorf("%d processes have %d MiB PSS, promised %d", len(pids), total>>20, memoryLimit>>20)
	}
}

func (m *machine) testRefusals() {
	if got := m.refused(m.command("up", "--nodes=2")); !strings.Contains(got, "other settings") {
		m.Errorf("other settings: %s", got)
	}
	other := m.TempDir()
	server := exec.Command(m.binary, "server", "--state-dir="+other, "--run-dir="+m.options.RunDir)
	if got := m.refused(server); !strings.Contains(got, "another instance is running") {
		m.Errorf("second server: %s", got)
	}
	taken := exec.Command(m.binary, "up", "--state-dir="+other, "--run-dir="+m.TempDir(), "--instance=selftest-b", "--bridge=vkselfb",
		"--apiserver-port=16443", "--pod-cidr=10.234.0.0/16", "--service-cidr=10.235.0.0/16", "--node-cidr=10.236.0.0/24",
		"--pod-cidr6=", "--service-cidr6=", "--node-cidr6=")
	if got := m.refused(taken); !strings.Contains(got, "port 16443 is taken") {
		m.Errorf("taken port: %s", got)
	}
	nobody := exec.Command("/proc/self/fd/3", "up")
	binary, err := os.Open(m.binary)
	if err != nil {
		m.Fatal(err)
	}
	defer binary.Close()
	nobody.ExtraFiles = []*os.File{binary}
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if got := m.refused(nobody); !strings.Contains(got, "not root") {
		m.Errorf("not root: %s", got)
	}
	if got := m.refused(m.command("node", "kill", "node07")); !strings.Contains(got, "node01") {
		m.Errorf("unknown node: %s", got)
	}
}

func (m *machine) testTwoNodes() {
	m.run("down")
	m.run("up", "--nodes=2")
	m.loadProbe()
	got := m.kubectl("get", "nodes", "-o", "jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.nodeInfo.machineID}{\"\\n\"}{end}")
	fields := strings.Fields(got)
	if len(fields) != 6 || fields[1] == fields[4] || fields[2] == fields[5] {
		m.Errorf("nodes:\n%s", got)
	}
}

func (m *machine) testRestricted() {
	m.apply(restrictedNamespace)
	m.kubectl("-n", "restricted", "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	m.apply(restrictedPod)
	m.kubectl("-n", "restricted", "wait", "--for=condition=Ready", "pod/strict", "--timeout=60s")
	if got := m.kubectl("-n", "restricted", "exec", "strict", "--", "/probe", "read", "/image/disk/disk.img"); got != "a disk" {
		m.Errorf("image volume: %q", got)
	}
	if got := m.kubectl("-n", "restricted", "logs", "strict"); got != "serving strict" {
		m.Errorf("log: %q", got)
	}
}

func (m *machine) testNetwork() {
	m.apply(webPod("web1", "node01") + webPod("web2", "node02") + webServices)
	m.waitPods("web1", "web2")
	for i, ip := range strings.Fields(m.kubectl("get", "pod", "web2", "-o", "jsonpath={.status.podIPs[*].ip}")) {
		url := "http://" + []string{ip, "[" + ip + "]"}[i] + "/"
		if got := m.probe("web1", "get", url); got != "web2" {
			m.Errorf("pod to pod %s: %q", url, got)
		}
	}
	seen := map[string]bool{}
	m.eventually("both pods answer for the service", func() bool {
		out, err := m.command("kubectl", "exec", "web1", "--", "/probe", "get", "http://web/").Output()
		seen[string(out)] = err == nil
		return seen["web1"] && seen["web2"]
	})
	if got := m.probe("web1", "lookup", "web2.hosts.default.svc.cluster.local"); len(strings.Fields(got)) != 2 {
		m.Errorf("headless name: %q", got)
	}
	ip := m.kubectl("get", "pod", "web2", "-o", "jsonpath={.status.podIP}")
	if got := m.probe("web1", "reverse", ip); !strings.Contains(got, "web2.hosts.default.svc.cluster.local.") {
		m.Errorf("reverse: %q", got)
	}
}

func (m *machine) testVolumes() {
	m.apply(claims + volumePod("vol1", "node01", "fs", "block", "shared-fs", "shared-block") + volumePod("vol2", "node02", "", "", "shared-fs", "shared-block"))
	m.waitPods("vol1", "vol2")
	for _, path := range []string{"/fs/a", "/shared-fs/a", "/dev/block", "/dev/shared-block"} {
		m.probe("vol1", "write", path, "written by vol1")
	}
	for _, path := range []string{"/shared-fs/a", "/dev/shared-block"} {
		if got := strings.TrimRight(m.probe("vol2", "read", path), "\x00"); got != "written by vol1" {
			m.Errorf("%s on the other node: %q", path, got)
		}
	}
	if size, err := strconv.Atoi(m.probe("vol1", "size", "/fs")); err != nil || size < 60<<20 || size > 80<<20 {
		m.Errorf("a claim of 64 MiB has %d bytes", size)
	}
	m.kubectl("delete", "pod", "vol1", "vol2", "--grace-period=1")
	m.kubectl("patch", "pvc", "fs", "-p", `{"spec":{"resources":{"requests":{"storage":"96Mi"}}}}`)
	m.kubectl("wait", "pvc/fs", "--for=jsonpath={.status.capacity.storage}=96Mi", "--timeout=60s")
	m.kubectl("delete", "pvc", "--all")
	m.eventually("the volumes are freed", func() bool {
		entries, err := os.ReadDir(m.options.VolumeDir())
		return err == nil && len(entries) == 0
	})
}

// identity tells one life of a pod's container from another.
func (m *machine) identity(pod string) string {
	m.Helper()
	return m.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}")
}

func (m *machine) testKilledComponents() {
	before := m.identity("web1")
	for _, name := range []string{"containerd", "kubelet", "kube-proxy"} {
		m.killInNode("node01", name)
	}
	for _, u := range m.status().Units {
		kill(m.T, u.Pid)
	}
	m.eventually("everything runs again", func() bool {
		for _, u := range m.status().Units {
			if !u.Ready || u.Restarts == 0 {
				return false
			}
		}
		out, err := m.command("kubectl", "exec", "web1", "--", "/probe", "lookup", "web").CombinedOutput()
		return err == nil && len(out) > 0
	})
	if after := m.identity("web1"); after != before {
		m.Errorf("the pod did not live on: %s, then %s", before, after)
	}
	m.apply(webPod("web3", "node01"))
	m.waitPods("web3")
}

// killInNode kills a node's own component: the child of its process 1 with that name.
func (m *machine) killInNode(node, name string) {
	m.Helper()
	for _, n := range m.status().Nodes {
		if n.Name != node {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.Pid, n.Pid))
		if err != nil {
			m.Fatal(err)
		}
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", n.Pid))
		if err != nil {
			m.Fatal(err)
		}
		for _, path := range tasks {
			more, _ := os.ReadFile(path) // a thread may have ended
			data = append(append(data, ' '), more...)
		}
		for _, field := range strings.Fields(string(data)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline") // listed twice, the second time it is gone
			if strings.HasPrefix(string(line), "virt-kube\x00"+name+"\x00") {
				pid, err := strconv.Atoi(field)
				if err != nil {
					m.Fatal(err)
				}
				kill(m.T, pid)
				return
			}
		}
	}
	m.Fatalf("%s has no %s", node, name)
}

// kill ends a process and returns when it is gone.
func kill(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Fatalf("process %d does not end: %v", pid, err)
	}
}

func (m *machine) testNodeFaults() {
	m.run("node", "kill", "node02")
	if got := m.refused(m.command("node", "exec", "node02", "--", "true")); !strings.Contains(got, "node start node02") {
		m.Errorf("exec on a node that is off: %s", got)
	}
	m.run("node", "start", "node02")
	m.waitPods("web2")
	m.eventually("the pod answers after the node's return", func() bool {
		ip := m.kubectl("get", "pod", "web2", "-o", "jsonpath={.status.podIP}")
		out, err := m.command("kubectl", "exec", "web1", "--", "/probe", "get", "http://"+ip+"/").Output()
		return err == nil && string(out) == "web2"
	})
	ip := m.kubectl("get", "pod", "web2", "-o", "jsonpath={.status.podIP}")
	m.run("node", "cut", "node02")
	m.refused(m.command("kubectl", "exec", "web1", "--", "/probe", "get", "http://"+ip+"/"))
	m.run("node", "heal", "node02")
	m.eventually("the pod answers after the network's return", func() bool {
		return m.command("kubectl", "exec", "web1", "--", "/probe", "get", "http://"+ip+"/").Run() == nil
	})
	m.run("node", "stop", "node02")
	m.run("node", "start", "node02")
	if got := m.run("node", "exec", "node02", "--", "hostname"); got != "node02" {
		m.Errorf("host name %q", got)
	}
	if got := m.run("ctr", "--node", "node02", "images", "ls", "-q"); !strings.Contains(got, image) {
		m.Errorf("images of node02: %s", got)
	}
}

func (m *machine) testDNSFault() {
	m.run("dns", "stop")
	m.refused(m.command("kubectl", "exec", "web1", "--", "/probe", "lookup", "web"))
	m.run("dns", "start")
	m.eventually("names resolve again", func() bool {
		return m.command("kubectl", "exec", "web1", "--", "/probe", "lookup", "web").Run() == nil
	})
}

func (m *machine) testKilledServer() {
	st := m.status()
	kill(m.T, st.Pid)
	for _, u := range append(st.Units, st.Nodes...) {
		m.eventually(u.Name+" ends with the server", func() bool { return unix.Kill(u.Pid, 0) != nil })
	}
	m.run("up")
	m.waitPods("web1", "web2")
}

// testNothingLeft looks for whatever the cluster made outside its state directory, after the worst end.
func (m *machine) testNothingLeft() {
	m.apply(claims + volumePod("vol1", "node01", "fs", "block", "shared-fs", "shared-block"))
	m.waitPods("vol1")
	kill(m.T, m.status().Pid)
	m.run("down", "--purge")
	for _, check := range [][]string{
		{"ip", "-o", "link"}, {"ip", "route"}, {"ip", "-6", "route"}, {"nft", "list", "tables"}, {"losetup", "-a"}, {"cat", "/proc/mounts"}, {"ps", "axww", "-o", "args"},
	} {
		out, err := exec.Command(check[0], check[1:]...).CombinedOutput()
		if err != nil {
			m.Fatalf("%v: %v", check, err)
		}
		for line := range strings.SplitSeq(string(out), "\n") {
			for _, trace := range []string{m.options.Bridge, m.options.StateDir, m.options.NftTable(), "10.192.", "10.194.", "fd00:10:192", "kubernetes.io~local-volume/volumeDevices/pvc"} {
				if strings.Contains(line, trace) {
					m.Errorf("left in %v: %s", check, line)
				}
			}
		}
	}
	hs, err := cgroup.Hierarchies()
	if err != nil {
		m.Fatal(err)
	}
	paths := []string{m.options.StateDir, m.options.RunDir}
	for _, h := range hs {
		paths = append(paths, h.Path+m.options.CgroupRoot())
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			m.Errorf("left: %s", path)
		}
	}
	if got := m.refused(m.command("status")); !strings.Contains(got, options.ErrNoCluster.Error()) {
		m.Errorf("status: %s", got)
	}
}
