package mountfailure

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgo "k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func eventObject(name string, pod types.UID, podName, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name}, Reason: "FailedMount", Message: message,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "lab", Name: podName, UID: pod},
	}
}

func launcher(name string, uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name, UID: uid, Labels: map[string]string{"kubevirt.io": "virt-launcher"}}}
}

// noWatchList tells the informer that the fake API server sends no bookmarks.
type noWatchList struct{ corev1client.EventsGetter }

func (noWatchList) IsWatchListSemanticsUnSupported() bool { return true }

// A missing Secret reaches the VMI controller as soon as kubelet says so, and only for launcher pods.
func TestWatch(t *testing.T) {
	missing := `MountVolume.SetUp failed for volume "cfg" : secret "nope" not found`
	other := launcher("other", "o")
	other.Labels = nil
	cluster := clientgo.NewClientset(eventObject("a", "o", "other", missing), eventObject("b", "old", "p", missing))
	w := New(noWatchList{cluster.CoreV1()}, fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(launcher("p", "u"), other).Build())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := cluster.CoreV1().Events("lab").Create(ctx, eventObject("c", "u", "p", missing), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-w.Failures():
		if e.Object.GetUID() != "u" {
			t.Errorf("about pod %s", e.Object.GetUID())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	if reason, message := w.Of("u"); reason != "FailedMount" || message != missing {
		t.Errorf("%s: %s", reason, message)
	}
	for _, uid := range []types.UID{"o", "old"} {
		if reason, _ := w.Of(uid); reason != "" {
			t.Errorf("remembers pod %s", uid)
		}
	}
}

func TestRemember(t *testing.T) {
	w := New(nil, nil)
	exact := failure{"FailedMount", `configmap "nope" not found`}
	if !w.remember("u", exact) || w.remember("u", exact) {
		t.Error("the same failure should be news once")
	}
	if w.remember("u", failure{"FailedMount", "Unable to attach or mount volumes: unmounted volumes=[cfg]"}) {
		t.Error("kubelet's summary hides the reason")
	}
	if !w.remember("u", failure{"FailedMount", `configmap "other" not found`}) {
		t.Error("another failure is news")
	}
	for i := range most {
		w.remember(types.UID(rune(i+1000)), exact)
	}
	if len(w.known) > most || len(w.order) > most {
		t.Errorf("remembers %d pods", len(w.known))
	}
}
