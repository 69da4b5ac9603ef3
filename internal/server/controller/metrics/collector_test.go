package metrics

import (
	"sort"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func objects() []client.Object {
	memory := resource.MustParse("1Gi")
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "web", CreationTimestamp: metav1.Unix(100, 0)}}
	vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{}
	vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: &memory}
	vm.Status.PrintableStatus = v1.VirtualMachineStatusRunning
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "web"}}
	strategy := v1.EvictionStrategyLiveMigrate
	vmi.Spec.EvictionStrategy = &strategy
	vmi.Status.Phase, vmi.Status.NodeName = v1.Running, "node01"
	vmi.Status.ActivePods = map[types.UID]string{"pod-uid": "node01"}
	vmi.Status.LauncherContainerImageVersion = "old"
	vmi.Status.Interfaces = []v1.VirtualMachineInstanceNetworkInterface{{Name: "default", IPs: []string{"10.0.0.1", "10.0.0.1"}}}
	migration := &v1.VirtualMachineInstanceMigration{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "m"}}
	migration.Status.Phase = v1.MigrationPending
	return []client.Object{vm, vmi, migration}
}

func gather(t *testing.T, leads bool) string {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	elected := make(chan struct{})
	if leads {
		close(elected)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(&Collector{Reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects()...).Build(), Leads: elected, Image: "new"})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.Metric {
			lines = append(lines, f.GetName()+" "+m.String())
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Dashboards and alerts read these names; a replica that only waits counts no machine a second time.
func TestCollect(t *testing.T) {
	got := gather(t, true)
	for _, want := range []string{
		"kubevirt_vm_info ", "kubevirt_vmi_info ", `"running"`, "kubevirt_vmi_non_evictable ", "kubevirt_vmi_number_of_outdated ",
		"kubevirt_vm_running_status_last_transition_timestamp_seconds ", "kubevirt_vm_resource_requests ", "kubevirt_vmi_status_addresses ",
		"kubevirt_vmi_migrations_in_pending_phase ", `"pod-uid"`, "kubevirt_vm_create_date_timestamp_seconds ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if waiting := gather(t, false); strings.Contains(waiting, "kubevirt_vm_info") || !strings.Contains(waiting, "kubevirt_virt_controller_leading_status") {
		t.Errorf("a replica that waits says\n%s", waiting)
	}
}
