//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	kubevirtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/client"
	"virtctl/test/playednode"
)

const (
	crowd      = 1000
	crowdNodes = 10
	// simulated marks the nodes that no machine stands behind, and keeps everything else away from them.
	simulated = "bench.virtctl.io/simulated"
)

// scale makes a thousand machines on nodes that are only played: what is measured is virt-controller, not guests.
func (b *bench) scale() {
	namespace := b.namespace("bench-scale")
	config := b.client.Config()
	config.QPS, config.UserAgent = -1, "bench-node"
	scheme := runtime.NewScheme()
	b.check(clientgoscheme.AddToScheme(scheme))
	b.check(kubevirtv1.AddToScheme(scheme))
	c, err := ctrl.New(config, ctrl.Options{Scheme: scheme})
	b.check(err)
	handlers := map[string]ctrl.Client{}
	for i := range crowdNodes {
		name := fmt.Sprintf("simulated%02d", i)
		b.simulate(c, name)
		handlers[name], err = ctrl.New(handlerOf(config, name), ctrl.Options{Scheme: scheme})
		b.check(err)
	}
	stop, err := playednode.Play(b.client.Config(), c, playednode.Settings{
		Namespace: namespace, Failed: func(err error) { b.Error(err) },
		Handler: func(node string) ctrl.Client { return handlers[node] },
	})
	b.check(err)
	defer stop()

	machine := b.vm(namespace, "")
	spec := &machine.Spec.Template.Spec
	spec.NodeSelector = map[string]string{simulated: "true"}
	spec.Tolerations = []corev1.Toleration{{Key: simulated, Operator: corev1.TolerationOpExists}}
	start := time.Now()
	for i := range crowd {
		vm := machine.DeepCopy()
		vm.Name = nth(i)
		b.check(c.Create(b.ctx, vm))
	}
	b.awaitReady(namespace, crowd)
	took := since(start)
	written := b.audited(func(w write) bool { return w.Object.Namespace == namespace })
	b.window(10 * time.Second) // the last events are written

	idleFrom := time.Now()
	b.window(time.Minute)
	idleWrites := b.audited(func(w write) bool { return w.Object.Namespace == namespace && w.At.After(idleFrom) })
	pod := b.leader("virt-controller")
	b.table.add(figure{name: fmt.Sprintf("%d simulated VMs → all Running", crowd), promise: 600, unit: seconds, values: took})
	b.table.add(figure{name: "simulated VM: API writes until it runs", promise: 12, unit: count, values: []float64{float64(len(written)) / crowd}, upstream: "27"})
	b.table.add(figure{name: "virt-controller with them, peak RSS", promise: 250, unit: mib, values: []float64{b.peak(pod)}})
	b.table.add(figure{name: "virt-controller's queues, P99 latency", promise: 1, unit: seconds, values: []float64{b.queueLatency(pod)}})
	b.table.add(figure{name: "idle minute with them: writes", promise: 0, unit: count, values: []float64{float64(len(idleWrites))}})
	b.table.note("API writes of %d simulated VMs: %s", crowd, tally(written))
	b.table.note("idle minute with them: %s", tally(idleWrites))

	b.program("kubectl", "", "-n", namespace, "delete", "vms", "--all", "--wait=false")
	b.awaitNoPods(namespace)
	for i := range crowdNodes {
		b.check(c.Delete(b.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("simulated%02d", i)}}))
	}
}

// handlerOf writes in the name of a node's virt-handler, which may write of its own node's machines only.
func handlerOf(config *rest.Config, node string) *rest.Config {
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kubevirt:kubevirt-handler",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kubevirt", "system:authenticated"},
		Extra:    map[string][]string{"authentication.kubernetes.io/node-name": {node}},
	}
	return config
}

// simulate adds a node that takes launcher pods, and keeps it alive for the cluster until the step ends.
func (b *bench) simulate(c ctrl.Client, name string) {
	b.Helper()
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("10Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("10Ti"), corev1.ResourcePods: resource.MustParse("1000"),
	}
	for _, device := range []string{"kvm", "tun", "vhost-net"} {
		room[corev1.ResourceName("devices.kubevirt.io/"+device)] = resource.MustParse("1000")
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			simulated: "true", corev1.LabelHostname: name, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux", kubevirtv1.NodeSchedulable: "true",
		}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: simulated, Effect: corev1.TaintEffectNoSchedule}}},
	}
	b.check(c.Create(b.ctx, node))
	created := node.DeepCopy()
	node.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}}
	// Others have changed it meanwhile: its taints.
	b.check(c.Status().Patch(b.ctx, node, ctrl.MergeFrom(created)))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name}}
	lease.Spec.HolderIdentity = &name
	lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
	b.check(c.Create(b.ctx, lease))
	go b.keepAlive(c, lease)
}

// keepAlive renews a node's lease, as kubelet does.
func (b *bench) keepAlive(c ctrl.Client, lease *coordinationv1.Lease) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
			if err := c.Update(b.ctx, lease); err != nil && b.ctx.Err() == nil {
				fmt.Println("bench: a simulated node's lease was not renewed:", err)
				return
			}
		case <-b.ctx.Done():
			return
		}
	}
}

// awaitReady returns when that many machines of the namespace are ready.
func (b *bench) awaitReady(namespace string, want int) {
	b.Helper()
	ready := map[string]bool{}
	b.check(b.client.VMs(namespace).Follow(b.ctx, client.ListOptions{}, func(e client.Event[kubevirtv1.VirtualMachine]) (bool, error) {
		if e.Object != nil && e.Object.Status.Ready {
			ready[e.Object.Name] = true
		}
		return len(ready) >= want, nil
	}))
}

// leader is the pod of a component that holds its lease.
func (b *bench) leader(component string) *corev1.Pod {
	b.Helper()
	holder := b.program("kubectl", "", "-n", "kubevirt", "get", "lease", component, "-o", "jsonpath={.spec.holderIdentity}")
	name, _, _ := strings.Cut(holder, "_")
	pod, err := b.client.Pods("kubevirt").Get(b.ctx, name)
	b.check(err)
	return pod
}

// peak is the most memory a pod's only process ever had.
func (b *bench) peak(pod *corev1.Pod) float64 {
	b.Helper()
	var most float64
	for _, dir := range b.processDirs(pod.UID) {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // it has ended meanwhile
		}
		for line := range strings.Lines(string(status)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
				kib, err := strconv.ParseFloat(fields[1], 64)
				b.check(err)
				most = max(most, kib/1024)
			}
		}
	}
	return most
}

// queueLatency is the 99th percentile of how long virt-controller's work waited in its queues, the worst of them: the upper bound of
// the histogram's bucket.
func (b *bench) queueLatency(pod *corev1.Pod) float64 {
	b.Helper()
	text := b.program("kubectl", "", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/kubevirt/pods/https:%s:8443/proxy/metrics", pod.Name))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	b.check(err)
	family := families["workqueue_queue_duration_seconds"]
	if family == nil {
		b.Fatal("virt-controller has no metric workqueue_queue_duration_seconds")
	}
	var worst float64
	for _, metric := range family.Metric {
		histogram := metric.GetHistogram()
		for _, bucket := range histogram.Bucket {
			if float64(bucket.GetCumulativeCount()) >= 0.99*float64(histogram.GetSampleCount()) {
				worst = max(worst, bucket.GetUpperBound())
				break
			}
		}
	}
	return worst
}
