package launcherpod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/layout"
)

// copyConsole copies what the launcher writes into the pipe, also when the launcher goes and comes. Two programs of some hundred KiB
// each: this runs beside guests, where another launcher would take megabytes. The shell is there because a signal that a container's
// first process does not handle is lost.
const copyConsole = `trap 'exit 0' TERM
[ -p "$0" ] || mkfifo -m 600 "$0" 2>/dev/null || [ -p "$0" ] || exit 1
while :; do cat "$0" & wait $! || exit 1; done`

// hasConsoleContainer: a guest's output is in the log of the launcher, but where the VM asks for it with logSerialConsole: true it is in
// the log of a container of its own, where clients of the contract look for it. Every VM would start later if all had one.
func hasConsoleContainer(in Input) bool {
	d := &in.VMI.Spec.Domain.Devices
	return d.LogSerialConsole != nil && in.Config.LogsSerialConsole(d)
}

func consoleContainer(in Input) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	return corev1.Container{
		Name: layout.ConsoleLogContainer, Image: in.Image, ImagePullPolicy: in.Config.Launcher.ImagePullPolicy,
		Command:         []string{"/bin/sh", "-c", copyConsole, layout.ConsoleLog},
		RestartPolicy:   &always,
		Resources:       consoleResources(in.VMI, in.Config.Launcher),
		SecurityContext: containerSecurity(),
		VolumeMounts:    []corev1.VolumeMount{{Name: layout.PrivateVolume, MountPath: layout.PrivateDir}},
	}
}

// consoleResources: what is needed is little, but container runtimes need some memory to start anything.
func consoleResources(vmi *v1.VirtualMachineInstance, l clusterconfig.Launcher) corev1.ResourceRequirements {
	r, ok := l.Support[v1.GuestConsoleLog]
	if !ok {
		r = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("10M")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("15m"), corev1.ResourceMemory: resource.MustParse("60M")},
		}
	}
	if guaranteed(vmi) {
		r.Requests = r.Limits // else the pod would lose its class
	}
	return r
}

// guaranteed tells whether the VM asks for exactly what it is limited to.
func guaranteed(vmi *v1.VirtualMachineInstance) bool {
	if cpu := vmi.Spec.Domain.CPU; cpu != nil && cpu.DedicatedCPUPlacement {
		return true
	}
	r := vmi.Spec.Domain.Resources
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, ok := r.Limits[name]
		if !ok {
			return false
		}
		if request, ok := r.Requests[name]; ok && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}
