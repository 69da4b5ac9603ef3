// Package rules says which VMs and VMIs are refused, and with which words. One file holds the rules of one concern. Field
// paths and refusals are those of the public contract: manifests that KubeVirt takes are taken, what it refuses is refused.
package rules

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// maxList bounds lists in a spec, so that rules that compare entries with each other stay cheap.
const maxList = 256

// Check gathers what is wrong.
type Check struct {
	cluster clusterconfig.Config
	// template is set for what instances are made of later: what an instance type or a preset may bring is not missed.
	template bool
	causes   []metav1.StatusCause
}

// rule judges one concern of a spec. at is the path of the spec.
type rule func(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec)

// specRules are the rules of every spec that is not absurdly long.
func specRules() []rule {
	return []rule{
		hostname, machine, memory, hugepages, cpu, dedicatedCPU, numa, cpuFeatures,
		volumes, cloudInit, storageVolumes, singletonVolumes,
		disks, diskTargets, diskTuning, filesystems, bootOrder,
		networks, interfaces, bindings, ports, dhcp,
		firmware, kernelBoot, launchSecurity, features, hypervDependencies, clock, reboot,
		graphics, inputs, soundAndVideo, hostDevices, panicDevices, watchdogs,
		probes, evictionAndStart, gracePeriod, dns, scheduling, accessCredentials, resourceClaims, ioThreads,
	}
}

// Spec judges the spec of a VMI, completed with its defaults, at a path such as spec or spec.template.spec.
func Spec(at *field.Path, spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) []metav1.StatusCause {
	return judge(&Check{cluster: cluster}, at, spec)
}

func judge(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) []metav1.StatusCause {
	if c.tooLong(at, spec) {
		return c.causes
	}
	for _, r := range specRules() {
		r(c, at, spec)
	}
	return c.causes
}

func (c *Check) tooLong(at *field.Path, spec *v1.VirtualMachineInstanceSpec) bool {
	devices := at.Child("domain", "devices")
	for _, l := range []struct {
		at *field.Path
		n  int
	}{
		{devices.Child("disks"), len(spec.Domain.Devices.Disks)},
		{devices.Child("interfaces"), len(spec.Domain.Devices.Interfaces)},
		{devices.Child("inputs"), len(spec.Domain.Devices.Inputs)},
		{devices.Child("gpus"), len(spec.Domain.Devices.GPUs)},
		{devices.Child("hostDevices"), len(spec.Domain.Devices.HostDevices)},
		{devices.Child("filesystems"), len(spec.Domain.Devices.Filesystems)},
		{at.Child("volumes"), len(spec.Volumes)},
		{at.Child("networks"), len(spec.Networks)},
		{at.Child("accessCredentials"), len(spec.AccessCredentials)},
	} {
		if l.n > maxList {
			c.invalid(l.at, "%s list exceeds the %d element limit in length", l.at, maxList)
		}
	}
	return len(c.causes) > 0
}

func (c *Check) cause(kind metav1.CauseType, at *field.Path, format string, args []any) {
	message := fmt.Sprintf(format, args...)
	// The answer's text is made of the messages alone, so each names its field.
	if !strings.Contains(message, at.String()) {
		message = at.String() + ": " + message
	}
	c.causes = append(c.causes, metav1.StatusCause{Type: kind, Field: at.String(), Message: message})
}

func (c *Check) invalid(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeFieldValueInvalid, at, format, args)
}

func (c *Check) required(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeFieldValueRequired, at, format, args)
}

func (c *Check) duplicate(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeFieldValueDuplicate, at, format, args)
}

func (c *Check) unsupported(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeFieldValueNotSupported, at, format, args)
}

func (c *Check) forbidden(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeForbidden, at, format, args)
}

func (c *Check) notFound(at *field.Path, format string, args ...any) {
	c.cause(metav1.CauseTypeFieldValueNotFound, at, format, args)
}

// gate refuses what stands behind a feature gate that is off.
func (c *Check) gate(at *field.Path, gate, what string) bool {
	if c.cluster.Gate(gate) {
		return true
	}
	c.invalid(at, "%s: the feature gate %s is not enabled in the KubeVirt object", what, gate)
	return false
}

// enum refuses values outside a set; an empty value stands for the default.
func enum[T ~string](c *Check, at *field.Path, value T, allowed ...T) {
	if value == "" || slices.Contains(allowed, value) {
		return
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	c.unsupported(at, "%s has the unsupported value %q, must be one of: %s", at, string(value), strings.Join(names, ", "))
}

// exactlyOne tells how many of the things are there.
func count(present ...bool) int {
	n := 0
	for _, p := range present {
		if p {
			n++
		}
	}
	return n
}
