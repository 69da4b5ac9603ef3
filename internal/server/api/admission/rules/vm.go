package rules

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype"

	"virtctl/internal/clusterconfig"
)

// VMInput is what the rules of VMs look at.
type VMInput struct {
	Cluster clusterconfig.Config
	// VM is as it was sent, Old as it was before an update.
	VM, Old *v1.VirtualMachine
	// Effective is the template's spec with instance type, preference and defaults applied.
	Effective *v1.VirtualMachineInstanceSpec
	// Platform says that the platform itself is asking.
	Platform bool
}

// VM judges a VM that is created or updated.
func VM(in VMInput) []metav1.StatusCause {
	c := &Check{cluster: in.Cluster, template: true}
	spec := field.NewPath("spec")
	if in.Old == nil {
		domainName(c, &in.VM.ObjectMeta)
	}
	if in.VM.Spec.Template == nil {
		c.required(spec.Child("template"), "missing virtual machine template.")
		return c.causes
	}
	runStrategy(c, spec, &in.VM.Spec)
	if s := in.VM.Spec.UpdateVolumesStrategy; s != nil {
		enum(c, spec.Child("updateVolumesStrategy"), *s, v1.UpdateVolumesStrategyMigration, v1.UpdateVolumesStrategyReplacement)
	}
	if Changed(in.Old, in.VM) {
		matchers(c, spec, &in.VM.Spec)
		template := spec.Child("template")
		metadata(c, template.Child("metadata"), &in.VM.Spec.Template.ObjectMeta, in.Platform)
		dataVolumes(c, spec, &in.VM.Spec)
		if in.Effective != nil {
			judge(c, template.Child("spec"), in.Effective)
			immovable(c, template.Child("spec"), &in.VM.Spec, in.Effective)
		}
	}
	if in.Old != nil {
		frozen(c, spec, in.Old, in.VM)
	}
	return c.causes
}

// Changed tells whether an update changes what a VM's instances are made of. What stands in the object already is not judged
// again: a stricter rule of a newer release, or an instance type that is gone, must keep neither the controllers from working
// on the VM nor its owner from stopping it.
func Changed(old, vm *v1.VirtualMachine) bool {
	return old == nil || !equality.Semantic.DeepEqual(old.Spec.Template, vm.Spec.Template) ||
		!equality.Semantic.DeepEqual(old.Spec.Instancetype, vm.Spec.Instancetype) ||
		!equality.Semantic.DeepEqual(old.Spec.Preference, vm.Spec.Preference) ||
		!equality.Semantic.DeepEqual(old.Spec.DataVolumeTemplates, vm.Spec.DataVolumeTemplates)
}

func runStrategy(c *Check, at *field.Path, spec *v1.VirtualMachineSpec) {
	switch {
	case spec.Running != nil && spec.RunStrategy != nil:
		c.invalid(at.Child("running"), "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead (%s, %s)",
			at.Child("running"), at.Child("runStrategy"))
	case spec.Running == nil && spec.RunStrategy == nil:
		c.invalid(at.Child("runStrategy"), "One of Running or RunStrategy must be specified (%s)", at.Child("runStrategy"))
	case spec.RunStrategy == nil:
	default:
		known := []v1.VirtualMachineRunStrategy{
			v1.RunStrategyHalted, v1.RunStrategyManual, v1.RunStrategyAlways,
			v1.RunStrategyRerunOnFailure, v1.RunStrategyOnce,
		}
		if c.cluster.Gate(clusterconfig.GateDecentralizedLiveMigration) {
			known = append(known, v1.RunStrategyWaitAsReceiver)
		}
		if !slices.Contains(known, *spec.RunStrategy) {
			c.invalid(at.Child("runStrategy"), "Invalid RunStrategy (%s), must be one of: %v", *spec.RunStrategy, known)
		}
	}
}

// matchers judges the references to instance type and preference, and what stands against any instance type.
func matchers(c *Check, at *field.Path, spec *v1.VirtualMachineSpec) {
	if m := spec.Instancetype; m != nil {
		matcher(c, at.Child("instancetype"), m.Name, m.Kind, m.InferFromVolume, instancetype.SingularResourceName,
			instancetype.PluralResourceName, instancetype.ClusterSingularResourceName, instancetype.ClusterPluralResourceName)
		inferPolicy(c, at.Child("instancetype"), m.InferFromVolumeFailurePolicy)
		instancetypeConflicts(c, at.Child("template", "spec", "domain"), &spec.Template.Spec)
	}
	if m := spec.Preference; m != nil {
		matcher(c, at.Child("preference"), m.Name, m.Kind, m.InferFromVolume, instancetype.SingularPreferenceResourceName,
			instancetype.PluralPreferenceResourceName, instancetype.ClusterSingularPreferenceResourceName,
			instancetype.ClusterPluralPreferenceResourceName)
		inferPolicy(c, at.Child("preference"), m.InferFromVolumeFailurePolicy)
	}
}

func matcher(c *Check, at *field.Path, name, kind, volume string, kinds ...string) {
	switch {
	case name == "" && volume == "":
		c.required(at.Child("name"), "either %s or %s must be provided", at.Child("name"), at.Child("inferFromVolume"))
	case name != "" && volume != "":
		c.invalid(at.Child("name"), "%s should not be provided when %s is used", at.Child("name"), at.Child("inferFromVolume"))
	}
	if kind != "" && !slices.Contains(kinds, strings.ToLower(kind)) {
		c.unsupported(at.Child("kind"), "%s %q is not supported, must be one of: %s", at.Child("kind"), kind, strings.Join(kinds, ", "))
	}
}

func inferPolicy(c *Check, at *field.Path, p *v1.InferFromVolumeFailurePolicy) {
	if p != nil {
		enum(c, at.Child("inferFromVolumeFailurePolicy"), *p, v1.RejectInferFromVolumeFailure, v1.IgnoreInferFromVolumeFailure)
	}
}

// instancetypeConflicts refuses what every instance type sets.
func instancetypeConflicts(c *Check, domain *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	conflict := func(set bool, path string) {
		if set {
			c.invalid(below(domain, path), "VM field(s) %s conflicts with selected instance type", below(domain, path))
		}
	}
	if p := spec.Domain.CPU; p != nil {
		conflict(p.Sockets > 0, "cpu.sockets")
		conflict(p.Cores > 0, "cpu.cores")
		conflict(p.Threads > 0, "cpu.threads")
	}
	conflict(spec.Domain.Memory != nil && spec.Domain.Memory.Guest != nil, "memory.guest")
	r := spec.Domain.Resources
	conflict(!r.Requests.Cpu().IsZero(), "resources.requests.cpu")
	conflict(!r.Requests.Memory().IsZero(), "resources.requests.memory")
	conflict(!r.Limits.Cpu().IsZero(), "resources.limits.cpu")
	conflict(!r.Limits.Memory().IsZero(), "resources.limits.memory")
}

// frozen keeps a VM as it is while it is being snapshotted or restored.
func frozen(c *Check, at *field.Path, before, after *v1.VirtualMachine) {
	if before.Status.RestoreInProgress != nil {
		strategy, err := after.RunStrategy()
		was, _ := before.RunStrategy()
		if err == nil && strategy != was && strategy != v1.RunStrategyHalted {
			c.unsupported(at, "Cannot start VM until restore %q completes", *before.Status.RestoreInProgress)
		}
	}
	if before.Status.SnapshotInProgress == nil || after.Spec.Template == nil || before.Spec.Template == nil {
		return
	}
	snapshot := *before.Status.SnapshotInProgress
	refuse := func(at *field.Path) {
		c.unsupported(at, "Cannot update VM %s until snapshot %q completes", at, snapshot)
	}
	old, now := &before.Spec.Template.Spec, &after.Spec.Template.Spec
	if !equality.Semantic.DeepEqual(old.Domain.Devices.Disks, now.Domain.Devices.Disks) {
		refuse(at.Child("template", "spec", "domain", "devices", "disks"))
	}
	if !equality.Semantic.DeepEqual(old.Volumes, now.Volumes) {
		refuse(at.Child("template", "spec", "volumes"))
	}
	if !equality.Semantic.DeepEqual(before.Spec.RunStrategy, after.Spec.RunStrategy) ||
		!equality.Semantic.DeepEqual(before.Spec.Running, after.Spec.Running) {
		refuse(at.Child("runStrategy"))
	}
}

// VMStatus judges the requests that a VM's status carries.
func VMStatus(vm *v1.VirtualMachine, cluster clusterconfig.Config) []metav1.StatusCause {
	c := &Check{cluster: cluster}
	requests := field.NewPath("status", "volumeRequests")
	seen := map[string]bool{}
	for i, r := range vm.Status.VolumeRequests {
		at, name := requests.Index(i), ""
		switch {
		case r.AddVolumeOptions != nil && r.RemoveVolumeOptions != nil:
			c.invalid(at, "VolumeRequests require either addVolumeOptions or removeVolumeOptions to be set, not both")
			continue
		case r.AddVolumeOptions != nil:
			name = r.AddVolumeOptions.Name
			if r.AddVolumeOptions.Disk == nil || r.AddVolumeOptions.VolumeSource == nil {
				c.invalid(at.Child("addVolumeOptions"), "AddVolume request for [%s] requires disk and volumeSource to be set", name)
			}
		case r.RemoveVolumeOptions != nil:
			name = r.RemoveVolumeOptions.Name
		default:
			c.invalid(at, "VolumeRequests require one of either addVolumeOptions or removeVolumeOptions to be set")
			continue
		}
		if seen[name] {
			c.invalid(at.Child("name"), "request for volume [%s] already exists in status", name)
		}
		seen[name] = true
	}
	return c.causes
}
