package operator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"virtctl/internal/server/serving"
)

// healthHandlers answer on the metrics port; the process is healthy as long as it answers.
func healthHandlers(ready *serving.Readiness) map[string]http.Handler {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	return map[string]http.Handler{"/healthz": ok, "/readyz": ready}
}

// webhookServer guards the KubeVirt resource. Every replica serves, its certificate comes from the Secret the leader keeps.
type webhookServer struct {
	client    client.Client
	direct    client.Reader
	namespace string
	port      int
	// listening is called when the API server can call.
	listening func()
}

func addWebhooks(mgr ctrl.Manager, opts options, listening func()) error {
	return mgr.Add(&webhookServer{
		client: mgr.GetClient(), direct: mgr.GetAPIReader(), namespace: opts.namespace, port: opts.webhookPort, listening: listening,
	})
}

// NeedLeaderElection makes every replica serve.
func (s *webhookServer) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (s *webhookServer) Start(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", s.port))
	if err != nil {
		return fmt.Errorf("listen for the API server: %w; choose another port with --webhook-port", err)
	}
	s.listening()
	decoder := admission.NewDecoder(Scheme())
	guard := &kubeVirtGuard{client: s.client, direct: s.direct, decoder: decoder}
	mux := http.NewServeMux()
	for _, operation := range []string{"create", "delete"} {
		mux.Handle("/kubevirt-validate-"+operation, &admission.Webhook{Handler: guard})
	}
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate},
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the webhooks: %w", err)
	}
	return nil
}

func (s *webhookServer) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	secret := &corev1.Secret{}
	if err := s.client.Get(hello.Context(), types.NamespacedName{Namespace: s.namespace, Name: "kubevirt-operator-certs"}, secret); err != nil {
		return nil, fmt.Errorf("the serving certificate is not there yet: %w", err)
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	return &pair, err
}

type kubeVirtGuard struct {
	client  client.Client
	direct  client.Reader
	decoder admission.Decoder
}

// Handle refuses a second KubeVirt resource, and a removal that would take virtual machines with it when the resource says so.
func (g *kubeVirtGuard) Handle(ctx context.Context, req admission.Request) admission.Response {
	switch req.Operation {
	case "CREATE":
		var all v1.KubeVirtList
		if err := g.client.List(ctx, &all); err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		if len(all.Items) > 0 {
			return admission.Denied(fmt.Sprintf("Kubevirt is already created: %s/%s; change that one", all.Items[0].Namespace, all.Items[0].Name))
		}
	case "DELETE":
		return g.remove(ctx, req)
	}
	return admission.Allowed("")
}

func (g *kubeVirtGuard) remove(ctx context.Context, req admission.Request) admission.Response {
	kv := &v1.KubeVirt{}
	if err := g.decoder.DecodeRaw(req.OldObject, kv); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if kv.Spec.UninstallStrategy != v1.KubeVirtUninstallStrategyBlockUninstallIfWorkloadsExist {
		return admission.Allowed("")
	}
	for _, list := range []client.ObjectList{&v1.VirtualMachineList{}, &v1.VirtualMachineInstanceList{}} {
		// Read past the cache: the answer must not be old.
		if err := g.direct.List(ctx, list, client.Limit(1)); err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		if count(list) > 0 {
			return admission.Denied("there are still virtual machines; delete them first, or set spec.uninstallStrategy to RemoveWorkloads")
		}
	}
	return admission.Allowed("")
}

func count(list client.ObjectList) int {
	switch l := list.(type) {
	case *v1.VirtualMachineList:
		return len(l.Items)
	case *v1.VirtualMachineInstanceList:
		return len(l.Items)
	}
	return 0
}
