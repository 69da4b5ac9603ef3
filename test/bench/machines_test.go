//go:build bench

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	kubevirtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/client"
)

const (
	// firstLine is the first thing the demo guest itself writes, loginPrompt what it writes when it is up.
	firstLine   = "demo guest: starting"
	loginPrompt = "login:"
)

func (b *bench) namespace(name string) string {
	b.Helper()
	b.program("kubectl", "", "create", "namespace", name)
	return name
}

// vm is the machine that a user makes with `virtctl create vm`.
func (b *bench) vm(namespace, name string) *kubevirtv1.VirtualMachine {
	b.Helper()
	vm := &kubevirtv1.VirtualMachine{}
	b.check(yaml.Unmarshal([]byte(b.virtctl("create", "vm", "--name", name, "--memory", "128Mi",
		"--volume-containerdisk", "src:localhost/virtctl/demo:"+b.cluster.Tag)), vm))
	vm.Namespace = namespace
	return vm
}

// vmi is what the controller would make of vm.
func (b *bench) vmi(namespace, name string) *kubevirtv1.VirtualMachineInstance {
	b.Helper()
	vm := b.vm(namespace, name)
	return &kubevirtv1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       vm.Spec.Template.Spec,
	}
}

// awaitRunning returns when that many of the chosen VMIs have run.
func (b *bench) awaitRunning(namespace string, opts client.ListOptions, want int) {
	b.Helper()
	running := map[types.UID]bool{}
	b.check(b.client.VMIs(namespace).Follow(b.ctx, opts, func(e client.Event[kubevirtv1.VirtualMachineInstance]) (bool, error) {
		if e.Type == watch.Bookmark {
			return len(running) >= want, nil
		}
		switch e.Object.Status.Phase {
		case kubevirtv1.Running:
			running[e.Object.UID] = true
		case kubevirtv1.Failed, kubevirtv1.Succeeded:
			return false, fmt.Errorf("VMI %s is %s: %+v", e.Object.Name, e.Object.Status.Phase, e.Object.Status.Conditions)
		}
		return len(running) >= want, nil
	}))
}

// awaitNoPods returns when the namespace has none.
func (b *bench) awaitNoPods(namespace string) {
	b.Helper()
	left, listed := map[types.UID]bool{}, false
	b.check(b.client.Pods(namespace).Follow(b.ctx, client.ListOptions{}, func(e client.Event[corev1.Pod]) (bool, error) {
		switch e.Type {
		case watch.Bookmark:
			listed = true
		case watch.Deleted:
			delete(left, e.Object.UID)
		default:
			left[e.Object.UID] = true
		}
		return listed && len(left) == 0, nil
	}))
}

// awaitConsole returns when a guest has written a text; the console replays what was written before. A stream that is lost, as on a
// machine that boots ten guests, is opened again.
func (b *bench) awaitConsole(namespace, name, text string) {
	b.Helper()
	for {
		seen, err := b.readConsole(namespace, name, text)
		if err == nil {
			return
		}
		var closed *client.CloseError
		if !errors.As(err, &closed) || !closed.Lost() || b.ctx.Err() != nil {
			b.Fatalf("the console of %s ended before %q: %v\n%s", name, text, err, seen)
		}
		b.table.note("the console of %s was lost and opened again: %v", name, err)
	}
}

func (b *bench) readConsole(namespace, name, text string) (string, error) {
	stream, err := b.client.Stream(b.ctx, client.VMI(namespace, name), "console", url.Values{"replay": {"true"}})
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(b.ctx, func() { _ = stream.Close() })
	defer stop()
	defer stream.Close()
	var seen bytes.Buffer
	buffer := make([]byte, 4096)
	for !bytes.Contains(seen.Bytes(), []byte(text)) {
		n, err := stream.Read(buffer)
		seen.Write(buffer[:n])
		if err != nil {
			return seen.String(), err
		}
	}
	return seen.String(), nil
}

// pod is the floor under a VMI: it mounts the same image and does nothing.
func (b *bench) pod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "idle", Image: "localhost/virtctl/virt-launcher:" + b.cluster.Tag, ImagePullPolicy: corev1.PullIfNotPresent,
				// A process 1 that says nothing about SIGTERM ignores it.
				Command:      []string{"/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"},
				VolumeMounts: []corev1.VolumeMount{{Name: "disk", MountPath: "/mnt"}},
			}},
			Volumes: []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{
				Reference: "localhost/virtctl/demo:" + b.cluster.Tag, PullPolicy: corev1.PullIfNotPresent,
			}}}},
		},
	}
}

// awaitPods returns when that many pods of the namespace run.
func (b *bench) awaitPods(namespace string, want int) {
	b.Helper()
	running := map[types.UID]bool{}
	b.check(b.client.Pods(namespace).Follow(b.ctx, client.ListOptions{}, func(e client.Event[corev1.Pod]) (bool, error) {
		if e.Type != watch.Bookmark && e.Object.Status.Phase == corev1.PodRunning {
			running[e.Object.UID] = true
		}
		return len(running) >= want, nil
	}))
}

// pods creates bare pods, waits for them and takes them away again: how long each took.
func (b *bench) pods(namespace string, many int) (created, gone float64) {
	b.Helper()
	start := time.Now()
	for i := range many {
		_, err := b.client.Pods(namespace).Create(b.ctx, b.pod(namespace, fmt.Sprintf("bare%d", i)), false)
		b.check(err)
	}
	b.awaitPods(namespace, many)
	created = time.Since(start).Seconds()
	start = time.Now()
	for i := range many {
		b.check(b.client.Pods(namespace).Delete(b.ctx, fmt.Sprintf("bare%d", i), metav1.DeleteOptions{}))
	}
	b.awaitNoPods(namespace)
	return created, time.Since(start).Seconds()
}

// nth names one of several machines.
func nth(i int) string { return fmt.Sprintf("vm%d", i) }

// halted is a machine that does not run until somebody starts it.
func (b *bench) halted(namespace, name string) *kubevirtv1.VirtualMachine {
	b.Helper()
	vm, halted := b.vm(namespace, name), kubevirtv1.RunStrategyHalted
	vm.Spec.RunStrategy = &halted
	return vm
}
