package review

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/admission"
)

// The texts are read by the descheduler, the code makes kubectl drain try again.
func TestEvictions(t *testing.T) {
	vmi := func(strategy v1.EvictionStrategy, node, evacuated string, migratable bool) *v1.VirtualMachineInstance {
		m := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "vm", Namespace: "default", UID: "u1"}}
		m.Spec.EvictionStrategy = &strategy
		m.Status.NodeName, m.Status.EvacuationNodeName = node, evacuated
		status := corev1.ConditionFalse
		if migratable {
			status = corev1.ConditionTrue
		}
		m.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VirtualMachineInstanceIsMigratable, Status: status}}
		return m
	}
	const triggered = `Eviction triggered evacuation of VMI "default/vm"`
	for _, tc := range []struct {
		name   string
		vmi    *v1.VirtualMachineInstance
		text   string
		marked bool
	}{
		{"migrates", vmi("LiveMigrate", "n1", "", true), triggered, true},
		{"cannot migrate", vmi("LiveMigrate", "n1", "", false), "VMI vm is configured with an eviction strategy but is not live-migratable", false},
		{"migrates if it can", vmi("LiveMigrateIfPossible", "n1", "", true), triggered, true},
		{"does not if it cannot", vmi("LiveMigrateIfPossible", "n1", "", false), "", false},
		{"somebody else sees to it", vmi("External", "n1", "", false), triggered, true},
		{"goes down", vmi("None", "n1", "", true), "", false},
		{"is moving already", vmi("LiveMigrate", "n1", "n1", true), "Evacuation in progress: " + triggered, true},
		{"pod is the target", vmi("LiveMigrate", "n2", "", true), "Eviction request for target Pod", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Name: "virt-launcher-vm-x", Namespace: "default", Labels: map[string]string{v1.AppLabel: "virt-launcher"},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(tc.vmi, v1.VirtualMachineInstanceGroupVersionKind)},
			}}
			pod.Spec.NodeName = "n1"
			s := testServer(t, tc.vmi, pod)
			request := createRequest([]byte(`{"metadata":{"name":"virt-launcher-vm-x","annotations":{"requested-by":"sigs.k8s.io/descheduler"}}}`), "alice")
			request.Name = "virt-launcher-vm-x"
			dry := *request
			yes := true
			dry.DryRun = &yes
			if strings.HasPrefix(tc.text, "Eviction triggered") {
				ask(t, s, admission.ValidateEviction, &dry)
				if m := read(t, s); m.Status.EvacuationNodeName != "" {
					t.Error("a dry run marked the VMI")
				}
			}
			answer := ask(t, s, admission.ValidateEviction, request)
			if answer.Allowed != (tc.text == "") || (!answer.Allowed && (answer.Result.Message != tc.text || answer.Result.Code != 429)) {
				t.Errorf("%+v", answer.Result)
			}
			m := read(t, s)
			if (m.Status.EvacuationNodeName == "n1") != tc.marked {
				t.Errorf("marked with %q", m.Status.EvacuationNodeName)
			}
			shown := slices.ContainsFunc(m.Status.Conditions, func(c v1.VirtualMachineInstanceCondition) bool {
				return c.Type == v1.VirtualMachineInstanceEvictionRequested && c.Status == corev1.ConditionTrue
			})
			if shown != (tc.text == triggered) {
				t.Errorf("conditions %+v", m.Status.Conditions)
			}
			if answer.Result != nil && answer.Result.Message == triggered && m.Annotations[v1.EvictionSourceAnnotation] != "descheduler" {
				t.Errorf("the descheduler's eviction is not noted: %v", m.Annotations)
			}
		})
	}
}

func read(t *testing.T, s *Server) *v1.VirtualMachineInstance {
	t.Helper()
	m := &v1.VirtualMachineInstance{}
	if err := s.get(t.Context(), "default", "vm", m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOtherPodsAreEvicted(t *testing.T) {
	s := testServer(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "virt-launcher-lookalike", Namespace: "default"}})
	for _, name := range []string{"virt-launcher-lookalike", "virt-launcher-gone"} {
		request := createRequest([]byte(`{}`), "alice")
		request.Name = name
		if answer := ask(t, s, admission.ValidateEviction, request); !answer.Allowed {
			t.Errorf("%s: %+v", name, answer.Result)
		}
	}
}

// A hotplugged volume's pod leaves with its VMI, not before.
func TestHotplugPodsStayWithTheirVMI(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "vm", Namespace: "default", UID: "u1"}}
	vmi.Status.Phase = v1.Running
	launcher := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "virt-launcher-vm-x", Namespace: "default", UID: "u2",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
	}}
	volume := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "hp-volume-x", Namespace: "default",
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(launcher, corev1.SchemeGroupVersion.WithKind("Pod"))},
	}}
	request := createRequest([]byte(`{}`), "alice")
	request.Name = volume.Name
	const text = "cannot evict hotplug pod: hp-volume-x associated with running vmi: vm in namespace default"
	if answer := ask(t, testServer(t, vmi, launcher, volume), admission.ValidateHotplugEviction, request); answer.Allowed || answer.Result.Message != text || answer.Result.Code != 429 {
		t.Errorf("%+v", answer)
	}
	for what, s := range map[string]*Server{"VMI": testServer(t, launcher, volume), "launcher": testServer(t, vmi, volume), "pod": testServer(t, vmi, launcher)} {
		if answer := ask(t, s, admission.ValidateHotplugEviction, request); !answer.Allowed {
			t.Errorf("without its %s: %+v", what, answer.Result)
		}
	}
}
