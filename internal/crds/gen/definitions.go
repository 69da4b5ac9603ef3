package main

import (
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// definition is what the contract says of one kind beside its schema.
type definition struct {
	pkg        string
	group      string
	kind       string
	plural     string
	singular   string
	shortNames []string
	scope      extv1.ResourceScope
	// versions: the first one is stored, all are served with the same schema.
	versions []string
	status   bool
	scale    *extv1.CustomResourceSubresourceScale
	columns  []extv1.CustomResourceColumnDefinition
	// deprecated tells that every version is, and that clients are told.
	deprecated bool
}

func column(name, kind, path string) extv1.CustomResourceColumnDefinition {
	return extv1.CustomResourceColumnDefinition{Name: name, Type: kind, JSONPath: path}
}

func wide(name, kind, path string) extv1.CustomResourceColumnDefinition {
	c := column(name, kind, path)
	c.Priority = 1
	return c
}

var (
	age   = column("Age", "date", ".metadata.creationTimestamp")
	ready = column("Ready", "string", ".status.conditions[?(@.type=='Ready')].status")
)

const (
	core         = "kubevirt.io/api/core/v1"
	instancetype = "kubevirt.io/api/instancetype/v1beta1"
)

// instancetypes are the four kinds of instance types and preferences.
func instancetypes() []definition {
	kind := func(kind, plural string, scope extv1.ResourceScope, short ...string) definition {
		return definition{
			pkg: instancetype, group: "instancetype.kubevirt.io", kind: kind, plural: plural, singular: plural[:len(plural)-1],
			shortNames: short, scope: scope, versions: []string{"v1beta1"},
		}
	}
	return []definition{
		kind("VirtualMachineInstancetype", "virtualmachineinstancetypes", extv1.NamespaceScoped, "vminstancetype", "vminstancetypes", "vmf", "vmfs"),
		kind("VirtualMachineClusterInstancetype", "virtualmachineclusterinstancetypes", extv1.ClusterScoped,
			"vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"),
		kind("VirtualMachinePreference", "virtualmachinepreferences", extv1.NamespaceScoped, "vmpref", "vmprefs", "vmp", "vmps"),
		kind("VirtualMachineClusterPreference", "virtualmachineclusterpreferences", extv1.ClusterScoped, "vmcp", "vmcps"),
	}
}

var definitions = append(instancetypes(), []definition{
	{
		pkg: core, group: "kubevirt.io", kind: "KubeVirt", plural: "kubevirts", singular: "kubevirt",
		shortNames: []string{"kv", "kvs"}, scope: extv1.NamespaceScoped, versions: []string{"v1", "v1alpha3"}, status: true,
		columns: []extv1.CustomResourceColumnDefinition{age, column("Phase", "string", ".status.phase")},
	},
	{
		pkg: core, group: "kubevirt.io", kind: "VirtualMachine", plural: "virtualmachines", singular: "virtualmachine",
		shortNames: []string{"vm", "vms"}, scope: extv1.NamespaceScoped, versions: []string{"v1", "v1alpha3"}, status: true,
		columns: []extv1.CustomResourceColumnDefinition{age, column("Status", "string", ".status.printableStatus"), ready},
	},
	{
		// No status subresource: the public contract writes a VMI's status through the main resource.
		pkg: core, group: "kubevirt.io", kind: "VirtualMachineInstance", plural: "virtualmachineinstances", singular: "virtualmachineinstance",
		shortNames: []string{"vmi", "vmis"}, scope: extv1.NamespaceScoped, versions: []string{"v1", "v1alpha3"},
		columns: []extv1.CustomResourceColumnDefinition{
			age,
			column("Phase", "string", ".status.phase"),
			column("IP", "string", ".status.interfaces[0].ipAddress"),
			column("NodeName", "string", ".status.nodeName"),
			ready,
			wide("Live-Migratable", "string", ".status.conditions[?(@.type=='LiveMigratable')].status"),
			wide("Paused", "string", ".status.conditions[?(@.type=='Paused')].status"),
		},
	},
	{
		pkg: core, group: "kubevirt.io", kind: "VirtualMachineInstanceMigration", plural: "virtualmachineinstancemigrations",
		singular: "virtualmachineinstancemigration", shortNames: []string{"vmim", "vmims"}, scope: extv1.NamespaceScoped,
		versions: []string{"v1", "v1alpha3"}, status: true,
		columns: []extv1.CustomResourceColumnDefinition{
			column("Phase", "string", ".status.phase"), column("VMI", "string", ".spec.vmiName"),
		},
	},
	{
		pkg: core, group: "kubevirt.io", kind: "VirtualMachineInstanceReplicaSet", plural: "virtualmachineinstancereplicasets",
		singular: "virtualmachineinstancereplicaset", shortNames: []string{"vmirs", "vmirss"}, scope: extv1.NamespaceScoped,
		versions: []string{"v1", "v1alpha3"}, status: true,
		scale: scale(),
		columns: []extv1.CustomResourceColumnDefinition{
			column("Desired", "integer", ".spec.replicas"), column("Current", "integer", ".status.replicas"),
			column("Ready", "integer", ".status.readyReplicas"), age,
		},
	},
	{
		pkg: core, group: "kubevirt.io", kind: "VirtualMachineInstancePreset", plural: "virtualmachineinstancepresets",
		singular: "virtualmachineinstancepreset", shortNames: []string{"vmipreset", "vmipresets"}, scope: extv1.NamespaceScoped,
		versions: []string{"v1", "v1alpha3"}, deprecated: true,
	},
	{
		pkg: "kubevirt.io/api/migrations/v1alpha1", group: "migrations.kubevirt.io", kind: "MigrationPolicy", plural: "migrationpolicies",
		singular: "migrationpolicy", scope: extv1.ClusterScoped, versions: []string{"v1alpha1"},
	},
}...)

func scale() *extv1.CustomResourceSubresourceScale {
	selector := ".status.labelSelector"
	return &extv1.CustomResourceSubresourceScale{
		SpecReplicasPath: ".spec.replicas", StatusReplicasPath: ".status.replicas", LabelSelectorPath: &selector,
	}
}

func (d definition) render(schema *extv1.CustomResourceValidation) *extv1.CustomResourceDefinition {
	root := schema.OpenAPIV3Schema
	for name, prop := range root.Properties {
		if name != "metadata" {
			openMetadata(&prop)
			root.Properties[name] = prop
		}
	}
	out := &extv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: d.plural + "." + d.group, Labels: map[string]string{"app.kubernetes.io/part-of": "virtctl"}},
		Spec: extv1.CustomResourceDefinitionSpec{
			Group: d.group, Scope: d.scope,
			Names: extv1.CustomResourceDefinitionNames{
				Kind: d.kind, ListKind: d.kind + "List", Plural: d.plural, Singular: d.singular,
				ShortNames: d.shortNames, Categories: []string{"all"},
			},
		},
	}
	for i, version := range d.versions {
		v := extv1.CustomResourceDefinitionVersion{
			Name: version, Served: true, Storage: i == 0, Schema: schema, AdditionalPrinterColumns: d.columns,
		}
		if d.deprecated {
			warning := d.group + "/" + version + " " + d.kind + "s is now deprecated and will be removed in v2."
			v.Deprecated, v.DeprecationWarning = true, &warning
		}
		if d.status || d.scale != nil {
			v.Subresources = &extv1.CustomResourceSubresources{Scale: d.scale}
		}
		if d.status {
			v.Subresources.Status = &extv1.CustomResourceSubresourceStatus{}
		}
		out.Spec.Versions = append(out.Spec.Versions, v)
	}
	return out
}

// openMetadata keeps embedded object metadata (a VM template's labels, a data volume template's name): the generated schema
// for it is an empty object, which the API server would prune to nothing.
func openMetadata(s *extv1.JSONSchemaProps) {
	for name, prop := range s.Properties {
		if name == "metadata" && prop.Type == "object" && len(prop.Properties) == 0 {
			keep := true
			prop.XPreserveUnknownFields = &keep
			prop.Nullable = true
		}
		openMetadata(&prop)
		s.Properties[name] = prop
	}
	if s.Items != nil && s.Items.Schema != nil {
		openMetadata(s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		openMetadata(s.AdditionalProperties.Schema)
	}
}
