//go:build integration

package controller

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/test/playednode"
)

// startNode adds the node n1, of which scheduler, kubelet and virt-handler are played.
func (cl *cluster) startNode() {
	cl.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{
		v1.VirtHandlerHeartbeat: time.Now().Format(time.RFC3339),
	}}}
	if err := cl.c.Create(context.Background(), node); err != nil {
		cl.t.Fatal(err)
	}
	config := cl.plane.As("node")
	c, err := client.New(config, client.Options{Scheme: cl.c.Scheme()})
	if err != nil {
		cl.t.Fatal(err)
	}
	stop, err := playednode.Play(config, c, playednode.Settings{
		Namespace: "lab", Bind: "n1", Failed: func(err error) { cl.t.Error(err) },
	})
	if err != nil {
		cl.t.Fatal(err)
	}
	cl.t.Cleanup(stop)
}
