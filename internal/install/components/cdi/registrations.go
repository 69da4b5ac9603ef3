package cdi

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"virtctl/internal/cdi/hooks"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/uploadapi"
)

// Registrations is what makes the API server call cdi-apiserver. They are applied after the workloads, with the authority
// they trust.
func Registrations(o Options) []runtime.Object {
	var out []runtime.Object
	for i, version := range uploadapi.Versions() {
		out = append(out, apiService(o, version, int32(15-i)))
	}
	for _, hook := range hooks.All() {
		if hook.Config == hooks.PVCMutate && !o.Rendering {
			continue
		}
		out = append(out, hook.Configuration(o.clusterMeta(hook.Config, names.DeploymentAPIServer), o.Namespace, o.CABundle))
	}
	return out
}

func apiService(o Options, version string, priority int32) runtime.Object {
	port := int32(443)
	return &apiregistrationv1.APIService{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService"},
		ObjectMeta: o.clusterMeta(version+"."+uploadapi.Group, names.DeploymentAPIServer),
		Spec: apiregistrationv1.APIServiceSpec{
			Group: uploadapi.Group, Version: version, GroupPriorityMinimum: 1000, VersionPriority: priority, CABundle: o.CABundle,
			Service: &apiregistrationv1.ServiceReference{Namespace: o.Namespace, Name: names.ServiceAPI, Port: &port},
		},
	}
}

// SecurityConstraints lets workers write to volumes on OpenShift: any group for files, no root, no capability.
func SecurityConstraints(o Options) runtime.Object {
	meta := o.clusterMeta("containerized-data-importer", names.DeploymentController)
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "security.openshift.io/v1", "kind": "SecurityContextConstraints",
		"allowHostDirVolumePlugin": false, "allowHostIPC": false, "allowHostNetwork": false, "allowHostPID": false,
		"allowHostPorts": false, "allowPrivilegeEscalation": false, "allowPrivilegedContainer": false, "readOnlyRootFilesystem": false,
		"fsGroup":                  map[string]any{"type": "RunAsAny"},
		"runAsUser":                map[string]any{"type": "MustRunAsNonRoot"},
		"seLinuxContext":           map[string]any{"type": "MustRunAs"},
		"supplementalGroups":       map[string]any{"type": "RunAsAny"},
		"seccompProfiles":          []any{"runtime/default"},
		"requiredDropCapabilities": []any{"ALL"},
		"volumes":                  []any{"configMap", "downwardAPI", "emptyDir", "image", "persistentVolumeClaim", "projected", "secret"},
		"users":                    []any{"system:serviceaccount:" + o.Namespace + ":" + names.AccountController},
	}}
	u.SetName(meta.Name)
	u.SetLabels(meta.Labels)
	return u
}

func hookNames() []string {
	var out []string
	for _, hook := range hooks.All() {
		out = append(out, hook.Config)
	}
	return out
}
