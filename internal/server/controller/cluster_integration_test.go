//go:build integration

package controller

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"virtctl/internal/crds"
	"virtctl/internal/install/components"
)

const launcherImage = "localhost/virtctl/virt-launcher:test"

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.NewKlogr())
	os.Exit(m.Run())
}

// cluster is a real API server with etcd, and stand-ins for the scheduler, kubelet and virt-handler of one node.
type cluster struct {
	t      *testing.T
	config *rest.Config
	c      client.WithWatch
	audit  string
}

// binary is a script that runs one of virt-kube's servers: envtest wants a program of its own for each.
func binary(t *testing.T, name string) string {
	t.Helper()
	kube := os.Getenv("VIRT_KUBE")
	if kube == "" {
		kube, _ = filepath.Abs("../../../bin/virt-kube")
	}
	if _, err := os.Stat(kube); err != nil {
		t.Fatalf("no virt-kube: %v; run `make virt-kube`, or set VIRT_KUBE", err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec "+kube+" "+name+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	cl := &cluster{t: t, audit: filepath.Join(t.TempDir(), "audit.log")}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	rules := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n"
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	definitions, err := crds.Platform()
	if err != nil {
		t.Fatal(err)
	}
	own, err := crds.KubeVirt()
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*apiextensionsv1.CustomResourceDefinition
	for _, d := range append(definitions, own) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.Object, crd); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, crd)
	}
	env := &envtest.Environment{CRDs: parsed, ControlPlaneStartTimeout: time.Minute}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: binary(t, "etcd")}
	server := env.ControlPlane.GetAPIServer()
	server.Path = binary(t, "kube-apiserver")
	server.Configure().Set("authorization-mode", "RBAC").Set("audit-policy-file", policy).Set("audit-log-path", cl.audit)
	if cl.config, err = env.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if cl.c, err = client.NewWithWatch(cl.as("test"), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cl.namespace("kubevirt", nil)
	cl.namespace("lab", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	for _, obj := range components.Accounts(components.Options{Namespace: "kubevirt"}) {
		if err := cl.c.Create(context.Background(), obj.(client.Object)); err != nil {
			t.Fatal(err)
		}
	}
	cl.startNode()
	return cl
}

// as is the configuration with another user agent and no throttle.
func (cl *cluster) as(agent string) *rest.Config {
	config := rest.CopyConfig(cl.config)
	config.UserAgent, config.QPS = agent, -1
	return config
}

func (cl *cluster) namespace(name string, labels map[string]string) {
	cl.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := cl.c.Create(context.Background(), ns); err != nil {
		cl.t.Fatal(err)
	}
}

// startControllers runs one replica of virt-controller, with no more rights than an installation gives it, until the returned
// function is called.
func (cl *cluster) startControllers() (stop func()) {
	cl.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	account := rest.CopyConfig(cl.config)
	account.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kubevirt:kubevirt-controller", Groups: []string{"system:serviceaccounts", "system:authenticated"},
	}
	mgr, err := NewManager(ctx, account, Flags{LauncherImage: launcherImage, Namespace: "kubevirt", LeaderElection: true})
	if err != nil {
		cl.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				cl.t.Error(err)
			}
		})
	}
	cl.t.Cleanup(stop)
	return stop
}

// await watches until an object of the list's kind satisfies the condition.
func await[T client.Object](cl *cluster, list client.ObjectList, name string, what string, ok func(T) bool) {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, list, client.InNamespace("lab"), client.MatchingFields{"metadata.name": name})
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	var last T
	for e := range w.ResultChan() {
		obj, is := e.Object.(T)
		if !is {
			continue
		}
		last = obj
		if ok(obj) {
			return
		}
	}
	text, _ := json.MarshalIndent(last, "", " ")
	cl.t.Fatalf("%s: %s did not happen; last seen: %s", name, what, text)
}

func (cl *cluster) awaitVM(name string, status v1.VirtualMachinePrintableStatus) {
	cl.t.Helper()
	await(cl, &v1.VirtualMachineList{}, name, "status "+string(status), func(vm *v1.VirtualMachine) bool {
		return vm.Status.PrintableStatus == status
	})
}

// awaitGone watches until no VM of the namespace is left.
func (cl *cluster) awaitGone() {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, &v1.VirtualMachineList{}, client.InNamespace("lab"))
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	var left v1.VirtualMachineList
	for {
		if err := cl.c.List(ctx, &left, client.InNamespace("lab")); err != nil {
			cl.t.Fatal(err)
		}
		if len(left.Items) == 0 {
			return
		}
		// Each removal ends one wait; the list says when it was the last one.
		for e := range w.ResultChan() {
			if e.Type == watch.Deleted {
				break
			}
		}
		if ctx.Err() != nil {
			cl.t.Fatalf("%d VMs stay, the first is %+v", len(left.Items), left.Items[0].ObjectMeta)
		}
	}
}

// awaitRenewals lets some time pass, measured in renewals of the leader's lease, which come every two seconds.
func (cl *cluster) awaitRenewals(count int) {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, &coordinationv1.LeaseList{}, client.InNamespace("kubevirt"))
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type != watch.Modified {
			continue
		}
		if count--; count == 0 {
			return
		}
	}
	cl.t.Fatal("the leader does not renew its lease")
}

// request is one request in the audit log.
type request struct{ Verb, Resource, Name, Code string }

// requests reads what virt-controller asked for, but for its lease.
func (cl *cluster) requests() []request {
	cl.t.Helper()
	f, err := os.Open(cl.audit)
	if err != nil {
		cl.t.Fatal(err)
	}
	defer f.Close()
	var out []request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			UserAgent, Verb string
			ObjectRef       struct{ Resource, Subresource, Name string }
			ResponseStatus  struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || !strings.HasPrefix(e.UserAgent, component) || e.ObjectRef.Resource == "leases" {
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		out = append(out, request{e.Verb, resource, e.ObjectRef.Name, fmt.Sprint(e.ResponseStatus.Code)})
	}
	return out
}

// writes are the requests that change something, but for the event that tells who leads, once per replica.
func (cl *cluster) writes() []request {
	return slices.DeleteFunc(cl.requests(), func(r request) bool {
		return r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" || r.Resource == "events" && strings.HasPrefix(r.Name, component+".")
	})
}

func summary(writes []request) string {
	count := map[string]int{}
	var order []string
	for _, w := range writes {
		key := w.Verb + " " + w.Resource + " " + w.Code
		if count[key] == 0 {
			order = append(order, key)
		}
		count[key]++
	}
	var b strings.Builder
	for _, key := range order {
		fmt.Fprintf(&b, "%5d %s\n", count[key], key)
	}
	return b.String()
}
