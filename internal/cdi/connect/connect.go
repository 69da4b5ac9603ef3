// Package connect gives CDI's servers their client for the Kubernetes API: one that knows the few kinds they use, and so needs
// no discovery, keeps no copies, and can watch.
package connect

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Config finds the cluster: in a pod by itself, elsewhere by a kubeconfig.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; run in a pod, or name a kubeconfig with --kubeconfig", err)
	}
	// The API server's priority and fairness throttles us if it must.
	config.QPS = -1
	config.UserAgent = userAgent
	return config, nil
}

// Scheme knows the types that are used.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authorizationv1.AddToScheme, storagev1.AddToScheme, cdiv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	return scheme, nil
}

// Client makes the client.
func Client(config *rest.Config) (client.WithWatch, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return c, nil
}

func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, k := range []struct {
		gv       schema.GroupVersion
		kind     string
		resource string
		scope    meta.RESTScope
	}{
		{corev1.SchemeGroupVersion, "Pod", "pod", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "PersistentVolumeClaim", "persistentvolumeclaim", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "Namespace", "namespace", meta.RESTScopeRoot},
		{authorizationv1.SchemeGroupVersion, "SubjectAccessReview", "subjectaccessreview", meta.RESTScopeRoot},
		{storagev1.SchemeGroupVersion, "StorageClass", "storageclasse", meta.RESTScopeRoot},
		{cdiv1.SchemeGroupVersion, "CDI", "cdi", meta.RESTScopeRoot},
		{cdiv1.SchemeGroupVersion, "CDIConfig", "cdiconfig", meta.RESTScopeRoot},
		{cdiv1.SchemeGroupVersion, "DataVolume", "datavolume", meta.RESTScopeNamespace},
		{cdiv1.SchemeGroupVersion, "DataSource", "datasource", meta.RESTScopeNamespace},
		{cdiv1.SchemeGroupVersion, "StorageProfile", "storageprofile", meta.RESTScopeRoot},
	} {
		plural := k.gv.WithResource(k.resource + "s") // also of "storageclasse"
		m.AddSpecific(k.gv.WithKind(k.kind), plural, k.gv.WithResource(k.resource), k.scope)
		// A watch asks for the list's kind.
		m.AddSpecific(k.gv.WithKind(k.kind+"List"), plural, k.gv.WithResource(k.resource), k.scope)
	}
	return m
}
