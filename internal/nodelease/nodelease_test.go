package nodelease

import (
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// A lease is found again by the name that was made for it, however long the node's is, and one that lies about its node counts for nobody.
func TestNodeOfLease(t *testing.T) {
	long := strings.Repeat("a.", 120) + strings.Repeat("b", 13)
	for _, name := range []string{"node01", "ip-10-0-0-1.example", long} {
		lease := New("kubevirt", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u"}}, metav1.NewMicroTime(time.Unix(0, 0)))
		if errs := validation.IsDNS1123Subdomain(lease.Name); len(errs) > 0 {
			t.Errorf("%s: %v", lease.Name, errs)
		}
		if got := Node(lease); got != name {
			t.Errorf("%q, want %q", got, name)
		}
		other := "other"
		lease.Spec.HolderIdentity = &other
		if got := Node(lease); got != "" {
			t.Errorf("a lease of %s speaks for %s", lease.Name, got)
		}
	}
	if got := Node(&coordinationv1.Lease{}); got != "" {
		t.Errorf("a lease without a holder is of %q", got)
	}
	if Name(long) == Name(long[:len(long)-1]+"c") {
		t.Error("two nodes share a lease")
	}
}
