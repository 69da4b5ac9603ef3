package follow

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

func kubevirt(name string, age time.Duration, binding string) *v1.KubeVirt {
	kv := &v1.KubeVirt{ObjectMeta: metav1.ObjectMeta{
		Namespace: "kubevirt", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
	}}
	kv.Spec.Configuration.NetworkConfiguration = &v1.NetworkConfiguration{NetworkInterface: binding}
	return kv
}

// A second KubeVirt must not take over the cluster, and the first one's removal must be noticed.
func TestFollow(t *testing.T) {
	f := &follower{source: &clusterconfig.Source{}, seen: map[string]*v1.KubeVirt{}}
	h := f.handler()
	old, young := kubevirt("a", time.Hour, "masquerade"), kubevirt("b", time.Minute, "passt")
	h.OnAdd(young, true)
	h.OnAdd(old, true)
	if got := f.source.Get().Network.DefaultBinding; got != "masquerade" {
		t.Errorf("with two KubeVirts the younger one's binding %q counts", got)
	}
	h.OnUpdate(old, kubevirt("a", time.Hour, "bridge"))
	if got := f.source.Get().Network.DefaultBinding; got != "bridge" {
		t.Errorf("a change is not followed: binding %q", got)
	}
	h.OnDelete(toolscache.DeletedFinalStateUnknown{Key: "kubevirt/a", Obj: old})
	if got := f.source.Get().Network.DefaultBinding; got != "passt" {
		t.Errorf("a removal is not followed: binding %q", got)
	}
}
