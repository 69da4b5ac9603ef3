package migration

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	v1 "kubevirt.io/api/core/v1"
	migrationsv1alpha1 "kubevirt.io/api/migrations/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/controller/index"
)

// world is one running VMI with its pod, a migration of it, and the reconciler.
type world struct {
	*testing.T
	client client.Client
	r      *Reconciler
	// late is how far the clock is ahead.
	late time.Duration
	// writes are those of migrations.
	writes []string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, migrationsv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{T: t}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1.VirtualMachineInstanceMigration{}).
		WithIndex(&corev1.Pod{}, index.Owner, index.ByOwner).WithObjects(objects...).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, o ...client.SubResourcePatchOption) error {
				err := c.SubResource(sub).Patch(ctx, obj, p, o...)
				if m, ok := obj.(*v1.VirtualMachineInstanceMigration); ok && err == nil {
					w.writes = append(w.writes, string(m.Status.Phase))
				}
				return err
			},
		}).Build()
	w.r = New(Options{
		Client: w.client, Live: w.client, Config: clusterconfig.Fixed(&v1.KubeVirt{}), Recorder: events.NewFakeRecorder(100),
		LauncherImage: "launcher:new", Now: func() time.Time { return time.Now().Add(w.late) },
	})
	return w
}

func runningVMI() *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "vm", Namespace: "ns", UID: "vmi-uid"}}
	vmi.Status.Phase, vmi.Status.NodeName = v1.Running, "node01"
	return vmi
}

func sourcePod(vmi *v1.VirtualMachineInstance) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "virt-launcher-vm-aaaaa", Namespace: "ns", UID: "source-uid", Labels: map[string]string{v1.CreatedByLabel: string(vmi.UID)},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
	}}
	pod.Spec.NodeName = "node01"
	pod.Spec.Containers = []corev1.Container{{Name: "compute", Image: "launcher:old"}}
	pod.Status.Phase = corev1.PodRunning
	return pod
}

func migrationOf(name string) *v1.VirtualMachineInstanceMigration {
	m := &v1.VirtualMachineInstanceMigration{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "ns", UID: "uid-of-m", Finalizers: []string{v1.VirtualMachineInstanceMigrationFinalizer},
	}}
	m.Spec.VMIName = "vm"
	return m
}

func (w *world) reconcile() *v1.VirtualMachineInstanceMigration {
	w.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: "m"}
	if _, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err != nil {
		w.Fatal(err)
	}
	m := &v1.VirtualMachineInstanceMigration{}
	if err := w.client.Get(context.Background(), key, m); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.Fatal(err)
	}
	return m
}

func (w *world) phase(want v1.VirtualMachineInstanceMigrationPhase) *v1.VirtualMachineInstanceMigration {
	w.Helper()
	m := w.reconcile()
	if m == nil || m.Status.Phase != want {
		w.Fatalf("the migration is %+v, want phase %s", m, want)
	}
	return m
}

func (w *world) target() *corev1.Pod {
	w.Helper()
	var pods corev1.PodList
	if err := w.client.List(context.Background(), &pods, client.MatchingLabels{v1.MigrationJobLabel: "uid-of-m"}); err != nil {
		w.Fatal(err)
	}
	if len(pods.Items) != 1 {
		w.Fatalf("there are %d target pods", len(pods.Items))
	}
	return &pods.Items[0]
}

func (w *world) vmi(change func(*v1.VirtualMachineInstance)) *v1.VirtualMachineInstance {
	w.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := w.client.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: "vm"}, vmi); err != nil {
		w.Fatal(err)
	}
	if change != nil {
		change(vmi)
		if err := w.client.Update(context.Background(), vmi); err != nil {
			w.Fatal(err)
		}
	}
	return vmi
}

// started brings a migration to the handover.
func (w *world) started() {
	w.Helper()
	w.phase(v1.MigrationScheduling)
	pod := w.target()
	pod.Spec.NodeName = "node02"
	if err := w.client.Update(context.Background(), pod); err != nil {
		w.Fatal(err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	if err := w.client.Status().Update(context.Background(), pod); err != nil {
		w.Fatal(err)
	}
}

// handedOver is a migration whose nodes take their time.
func (w *world) handedOver() {
	w.Helper()
	w.started()
	w.phase(v1.MigrationScheduling)
	w.late = handoverTime
	w.phase(v1.MigrationPreparingTarget)
}

// A migration that goes as it should is told in three writes, and these tell the times of all phases.
func TestQuickMigration(t *testing.T) {
	vmi := runningVMI()
	w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"))
	w.started()
	w.phase(v1.MigrationScheduling)
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.TargetNodeAddress = "10.0.0.2" })
	w.phase(v1.MigrationScheduling)
	now := metav1.Now()
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.StartTimestamp = &now })
	w.phase(v1.MigrationRunning)
	w.vmi(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.MigrationState.Completed, vmi.Status.MigrationState.EndTimestamp = true, &now
		vmi.Status.NodeName = "node02"
	})
	m := w.phase(v1.MigrationSucceeded)
	if got := strings.Join(w.writes, " "); got != "Scheduling Running Succeeded" {
		t.Errorf("written: %s", got)
	}
	var phases []string
	for _, p := range m.Status.PhaseTransitionTimestamps {
		phases = append(phases, string(p.Phase))
	}
	if got := strings.Join(phases, " "); got != "Pending Scheduling Scheduled PreparingTarget Running Succeeded" && got != "Pending Scheduling Scheduled PreparingTarget TargetReady Running Succeeded" {
		t.Errorf("phases %s", got)
	}
	if len(w.r.entered) != 0 {
		t.Errorf("a migration that is over is remembered: %v", w.r.entered)
	}
}

func TestMigrationGoesThroughEveryPhase(t *testing.T) {
	vmi := runningVMI()
	w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"))
	w.handedOver()
	target := w.target()
	if target.Spec.Containers[0].Image != "launcher:new" || target.Spec.Affinity.PodAntiAffinity == nil || target.Name == "virt-launcher-vm-aaaaa" {
		t.Errorf("the target pod is %+v", target)
	}
	handed := w.vmi(nil)
	state := handed.Status.MigrationState
	if state == nil || state.SourceNode != "node01" || state.TargetNode != "node02" || handed.Labels[v1.MigrationTargetNodeNameLabel] != "node02" {
		t.Fatalf("handed over as %+v, labels %v", state, handed.Labels)
	}
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.TargetNodeAddress = "10.0.0.2" })
	w.phase(v1.MigrationTargetReady)
	now := metav1.Now()
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.StartTimestamp = &now })
	w.phase(v1.MigrationRunning)
	w.vmi(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.MigrationState.Completed, vmi.Status.MigrationState.EndTimestamp = true, &now
		vmi.Status.NodeName = "node02"
	})
	m := w.phase(v1.MigrationSucceeded)
	if m.Status.MigrationState == nil || !m.Status.MigrationState.Completed || len(m.Finalizers) != 0 {
		t.Errorf("the migration ends as %+v with finalizers %v", m.Status, m.Finalizers)
	}
	err := w.client.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: "virt-launcher-vm-aaaaa"}, &corev1.Pod{})
	if !apierrors.IsNotFound(err) {
		t.Error("the pod that the guest left is still there")
	}
}

// A virt-controller that starts anew sees migrations that ended long ago. None of them has anything to do with the pod the guest is in.
func TestOldMigrationsLeaveTheGuestAlone(t *testing.T) {
	for name, change := range map[string]func(*v1.VirtualMachineInstanceMigration){
		"cleaned up":      func(m *v1.VirtualMachineInstanceMigration) { m.Finalizers = nil },
		"not cleaned up":  func(*v1.VirtualMachineInstanceMigration) {},
		"without account": func(m *v1.VirtualMachineInstanceMigration) { m.Status.MigrationState = nil },
	} {
		t.Run(name, func(t *testing.T) {
			vmi := runningVMI()
			vmi.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{MigrationUID: "a later one", SourcePod: "another", Completed: true}
			old := migrationOf("m")
			old.Status.Phase = v1.MigrationSucceeded
			old.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{MigrationUID: old.UID, SourcePod: "gone long ago", Completed: true}
			change(old)
			w := newWorld(t, vmi, sourcePod(vmi), old)
			w.phase(v1.MigrationSucceeded)
			if err := w.client.Get(context.Background(), client.ObjectKeyFromObject(sourcePod(vmi)), &corev1.Pod{}); err != nil {
				t.Errorf("the guest's pod: %v", err)
			}
		})
	}
}

// What cannot work ends at once, with the reason, and without a pod.
func TestMigrationIsRefused(t *testing.T) {
	cases := map[string]func(*v1.VirtualMachineInstance){
		"ended": func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Succeeded },
		"not migratable": func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{{
				Type: v1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionFalse, Reason: "DisksNotLiveMigratable",
			}}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			vmi := runningVMI()
			change(vmi)
			w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"))
			w.phase(v1.MigrationFailed)
			var pods corev1.PodList
			if err := w.client.List(context.Background(), &pods); err != nil || len(pods.Items) != 1 {
				t.Errorf("%d pods, %v", len(pods.Items), err)
			}
		})
	}
	w := newWorld(t, migrationOf("m"))
	w.phase(v1.MigrationFailed)
}

// What a policy says is recorded, so that an administrator sees why a migration runs as it does.
func TestPolicyIsRecorded(t *testing.T) {
	vmi := runningVMI()
	vmi.Labels = map[string]string{"app": "web"}
	p := policyOf("gentle", map[string]string{"app": "web"}, nil)
	yes := true
	p.Spec.AllowPostCopy = &yes
	w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"), &p, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	w.handedOver()
	state := w.vmi(nil).Status.MigrationState
	if state.MigrationPolicyName == nil || *state.MigrationPolicyName != "gentle" || !*state.VMIMConfigurationOptions.AllowPostCopy {
		t.Errorf("%+v", state)
	}
}

func TestFailureOnTheNodesEndsTheMigrationAndTheTargetPod(t *testing.T) {
	vmi := runningVMI()
	w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"))
	w.handedOver()
	w.vmi(func(vmi *v1.VirtualMachineInstance) {
		state := vmi.Status.MigrationState
		state.Completed, state.Failed, state.FailureReason = true, true, "the link is down"
	})
	m := w.phase(v1.MigrationFailed)
	if len(m.Status.Conditions) != 1 || m.Status.Conditions[0].Message != "the migration failed: the link is down" {
		t.Errorf("conditions: %+v", m.Status.Conditions)
	}
	var pods corev1.PodList
	if err := w.client.List(context.Background(), &pods); err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "virt-launcher-vm-aaaaa" {
		t.Errorf("pods left: %v, %v", pods.Items, err)
	}
}

// A migration of a guest that is yet to start waits for it, as the cache may still show one that runs already, and keeps nobody else
// waiting.
func TestMigrationWaitsForTheGuest(t *testing.T) {
	vmi := runningVMI()
	vmi.Status.Phase = v1.Scheduled
	other := runningVMI()
	other.Name, other.UID, other.Status.NodeName = "other", "other-uid", "node02"
	before := migrationOf("before")
	before.UID, before.Spec.VMIName, before.Status.Phase = "uid-of-before", "other", v1.MigrationPending
	before.CreationTimestamp = metav1.Now()
	w := newWorld(t, vmi, other, sourcePod(vmi), migrationOf("m"), before)
	w.r.Config = clusterconfig.Fixed(&v1.KubeVirt{Spec: v1.KubeVirtSpec{Configuration: v1.KubeVirtConfiguration{
		MigrationConfiguration: &v1.MigrationConfiguration{ParallelMigrationsPerCluster: new(uint32(1))},
	}}})
	w.phase(v1.MigrationPending)
	w.phase(v1.MigrationPending)
	if next, err := w.r.next(t.Context()); err != nil || len(next) != 1 || next[0].Name != "before" {
		t.Errorf("the next migrations are %v, %v", next, err)
	}
	if err := w.client.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.Phase = v1.Running })
	w.phase(v1.MigrationScheduling)
}

// A target pod that no node takes is told once, and the migration ends when its annotation says so.
func TestNoPlaceForTheTarget(t *testing.T) {
	vmi, m := runningVMI(), migrationOf("m")
	m.Annotations = map[string]string{v1.MigrationUnschedulablePodTimeoutSecondsAnnotation: "20"}
	w := newWorld(t, vmi, sourcePod(vmi), m)
	w.phase(v1.MigrationScheduling)
	pod := w.target()
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/2 nodes are available",
	}}
	if err := w.client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.late = 10 * time.Second
	w.phase(v1.MigrationScheduling)
	w.phase(v1.MigrationScheduling)
	w.late = time.Minute
	w.phase(v1.MigrationFailed)
	recorder := w.r.Recorder.(*events.FakeRecorder)
	close(recorder.Events)
	told := 0
	for e := range recorder.Events {
		if strings.Contains(e, "migrationTargetPodUnschedulable") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times that no node takes the target pod", told)
	}
	if len(w.r.noPlace) != 0 {
		t.Errorf("a migration that is over is remembered: %v", w.r.noPlace)
	}
}

func TestDeletingAMigrationAbortsIt(t *testing.T) {
	vmi := runningVMI()
	w := newWorld(t, vmi, sourcePod(vmi), migrationOf("m"))
	w.handedOver()
	now := metav1.Now()
	w.vmi(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.StartTimestamp = &now })
	w.phase(v1.MigrationRunning)
	m := w.reconcile()
	if err := w.client.Delete(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if vmi := w.vmi(nil); !vmi.Status.MigrationState.AbortRequested || vmi.Status.MigrationState.Failed {
		t.Fatalf("the nodes are told %+v", vmi.Status.MigrationState)
	}
	w.vmi(func(vmi *v1.VirtualMachineInstance) {
		state := vmi.Status.MigrationState
		state.Completed, state.Failed, state.AbortStatus = true, true, v1.MigrationAbortSucceeded
	})
	if left := w.reconcile(); left != nil {
		t.Errorf("the migration is still there: %+v", left.Status)
	}
}
