package install

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"virtctl/internal/apply"
)

// probeTime bounds one node's probe, pulling the image included.
const probeTime = 2 * time.Minute

// probesAtOnce bounds how many nodes are probed at the same time.
const probesAtOnce = 16

// ProbeNodes proves on every node that images can be mounted as volumes and whether hardware virtualization runs a guest.
func (i *Installer) ProbeNodes(ctx context.Context) []Check {
	nodes, err := i.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return []Check{{Name: "virtualization", Verdict: Failed, Detail: err.Error()}}
	}
	out := make([]Check, len(nodes.Items))
	slots := make(chan struct{}, probesAtOnce)
	var probing sync.WaitGroup
	for n, node := range nodes.Items {
		slots <- struct{}{}
		probing.Go(func() {
			defer func() { <-slots }()
			out[n] = i.probeNode(ctx, node.GetName())
		})
	}
	probing.Wait()
	return out
}

func (i *Installer) probeNode(ctx context.Context, node string) Check {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c := Check{Name: "virtualization on " + node}
	report, err := i.runProbe(ctx, node)
	switch {
	case err != nil:
		c.Verdict, c.Detail = Failed, err.Error()
		c.Cure = "make the launcher image available on the node, or look at why the pod does not run"
	case report.KVM:
		c.Verdict, c.Detail = Passed, "a guest ran with KVM"
	default:
		c.Verdict, c.Detail, c.Cure = Warned, "no KVM: "+report.Reason, "VMs are emulated there; see `virtctl install --emulation`"
	}
	return c
}

func (i *Installer) runProbe(ctx context.Context, node string) (kvmReport, error) {
	pods := i.dynamic.Resource(podResource).Namespace("default")
	manifest, err := apply.Unstructured(i.probePod(node))
	if err != nil {
		return kvmReport{}, err
	}
	pod, err := pods.Create(ctx, manifest, metav1.CreateOptions{})
	if err != nil {
		return kvmReport{}, fmt.Errorf("start the probe: %w", err)
	}
	defer func() {
		now := int64(0)
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = pods.Delete(after, pod.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
	}()
	message, trouble := "", ""
	err = i.until(ctx, pods, pod.GetName(), func(now *unstructured.Unstructured) (bool, error) {
		if now == nil {
			return false, errors.New("the probe's pod was deleted")
		}
		trouble = podTrouble(now)
		phase, _, _ := unstructured.NestedString(now.Object, "status", "phase")
		message = termination(now)
		return phase == "Succeeded" || phase == "Failed", nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return kvmReport{}, fmt.Errorf("the probe did not end in %s: %s", probeTime, trouble)
	}
	if err != nil {
		return kvmReport{}, err
	}
	report, err := parseKVMReport(message)
	if err != nil {
		return kvmReport{}, fmt.Errorf("the probe failed: %s", message)
	}
	return report, nil
}

func termination(pod *unstructured.Unstructured) string {
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	if len(statuses) == 0 {
		return ""
	}
	status, ok := statuses[0].(map[string]any)
	if !ok {
		return ""
	}
	message, _, _ := unstructured.NestedString(status, "state", "terminated", "message")
	return message
}

// probePod mounts the launcher image into itself, so that image volumes are proven as well.
func (i *Installer) probePod(node string) *corev1.Pod {
	privileged, root := true, int64(0) // what virt-handler's own probe is; the image's user may not open /dev/kvm
	image := i.Registry + "/virt-launcher:" + i.Tag
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "virtctl-probe-", Namespace: "default", Labels: map[string]string{"app.kubernetes.io/managed-by": managedBy}},
		Spec: corev1.PodSpec{
			NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "probe", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command:                  []string{"/usr/bin/virt-launcher", "probe", "--out=/probe", "--report=/dev/termination-log"},
				SecurityContext:          &corev1.SecurityContext{Privileged: &privileged, RunAsUser: &root},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				VolumeMounts: []corev1.VolumeMount{
					{Name: "probe", MountPath: "/probe"}, {Name: "image", MountPath: "/image", ReadOnly: true},
				},
			}},
			Volumes: []corev1.Volume{
				{Name: "probe", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "image", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: corev1.PullIfNotPresent}}},
			},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
}
