//go:build bench

package bench

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bareDaemon runs libvirt as the launcher does, session mode and state in memory, but for anybody who connects: the network is this
// machine's own.
const bareDaemon = `set -e
cd /floor
mkdir -p config/libvirt cache
cat > config/libvirt/qemu.conf <<END
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
dynamic_ownership = 0
remember_owner = 0
capability_filters = [ "cpu-unavailable-features" ]
END
cat > config/libvirt/libvirtd.conf <<END
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
END
exec libvirtd --listen --config config/libvirt/libvirtd.conf`

// bareMachine is the platform's guest as far as it has a part in its migration: memory, screen and a local disk.
const bareMachine = `<domain type='qemu'><name>floor</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><cpu mode='maximum'/>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/><source file='/floor/disk.qcow2'/>
<backingStore type='file'><format type='qcow2'/><source file='/image/disk/demo.qcow2'/></backingStore><target dev='sda' bus='sata'/></disk>
<serial type='file'><source path='/floor/console'/></serial><console type='file'><source path='/floor/console'/><target type='serial'/></console>
<memballoon model='virtio' freePageReporting='on'><stats period='10'/></memballoon><video><model type='vga' vram='16384' heads='1'/></video>
</devices></domain>`

const (
	bareImage   = "localhost/virtctl/virt-launcher:"
	bareVirsh   = "virsh -q -c qemu:///session "
	bareOverlay = "rm -f /floor/disk.qcow2; qemu-img create -q -f qcow2 -F qcow2 -b /image/disk/demo.qcow2 /floor/disk.qcow2"
)

// barePod is a pod on a node with libvirt in it and nothing of the platform.
func (b *bench) barePod(namespace, node string) *corev1.Pod {
	user, seconds, together := int64(107), int64(1), true
	environment := []corev1.EnvVar{
		{Name: "HOME", Value: "/floor"},
		{Name: "XDG_RUNTIME_DIR", Value: "/floor/run"},
		{Name: "XDG_CONFIG_HOME", Value: "/floor/config"},
		{Name: "XDG_CACHE_HOME", Value: "/floor/cache"},
	}
	volumes := []corev1.Volume{
		{Name: "floor", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "run", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "image", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{
			Reference: "localhost/virtctl/demo:" + b.cluster.Tag, PullPolicy: corev1.PullIfNotPresent,
		}}},
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: node, Namespace: namespace},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: &seconds,
			// Somebody has to reap what libvirt leaves: the pause container does.
			ShareProcessNamespace: &together,
			SecurityContext:       &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user, FSGroup: &user},
			Containers: []corev1.Container{{
				Name: "libvirt", Image: bareImage + b.cluster.Tag, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{"/bin/sh", "-c", bareDaemon}, Env: environment,
				VolumeMounts: []corev1.VolumeMount{{Name: "floor", MountPath: "/floor"}, {Name: "run", MountPath: "/floor/run"}, {Name: "image", MountPath: "/image"}},
			}},
			Volumes: volumes,
		},
	}
}

// bare is the same guest moved by libvirt alone, from pod to pod over the same network, unencrypted: the least that a migration takes.
type bare struct {
	*bench
	namespace string
}

func (b *bench) bareGuest() *bare {
	b.Helper()
	f := &bare{bench: b, namespace: b.namespace("bench-floor")}
	for _, node := range []string{"node01", "node02"} {
		_, err := b.client.Pods(f.namespace).Create(b.ctx, b.barePod(f.namespace, node), false)
		b.check(err)
	}
	b.awaitPods(f.namespace, 2)
	f.in("node01", "while ! [ -S /floor/run/libvirt/libvirt-sock ]; do sleep 0.1; done; "+bareOverlay+"; cat > /floor/machine.xml <<END\n"+
		bareMachine+"\nEND\n"+bareVirsh+"create /floor/machine.xml")
	f.in("node01", "until grep -q '"+loginPrompt+"' /floor/console; do sleep 0.2; done")
	f.move("node01", "node02") // the first one warms the other node up
	return f
}

func (f *bare) in(node, script string) string {
	f.Helper()
	return f.program("kubectl", "", "-n", f.namespace, "exec", node, "--", "/bin/sh", "-ec", script)
}

// move gives libvirt's account of one migration, in seconds.
func (f *bare) move(from, to string) (memory, downtime float64) {
	f.Helper()
	pod, err := f.client.Pods(f.namespace).Get(f.ctx, to)
	f.check(err)
	f.in(to, bareOverlay)
	f.in(from, fmt.Sprintf(bareVirsh+"migrate --live --p2p --copy-storage-inc floor qemu+tcp://%[1]s/session tcp://%[1]s", pod.Status.PodIP))
	account := bufio.NewScanner(strings.NewReader(f.in(to, bareVirsh+"domjobinfo --completed --keep-completed floor")))
	for account.Scan() {
		name, value, _ := strings.Cut(account.Text(), ":")
		fields := strings.Fields(value)
		if len(fields) != 2 || fields[1] != "ms" {
			continue
		}
		millis, err := strconv.ParseFloat(fields[0], 64)
		f.check(err)
		switch took := millis * float64(time.Millisecond) / float64(time.Second); name {
		case "Time elapsed":
			memory = took
		case "Total downtime":
			downtime = took
		}
	}
	if memory == 0 || downtime == 0 {
		f.Fatalf("libvirt gives no account of the migration to %s", to)
	}
	return memory, downtime
}
