// Package catalog is the set of cluster instance types and preferences that every installation brings.
package catalog

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
)

// size is a number of processors and an amount of memory with the usual name for it.
type size struct {
	name   string
	cpus   uint32
	memory string
}

// series is a family of sizes with the same character.
type series struct {
	name, class, about string
	sizes              []size
	shape              func(*v1beta1.VirtualMachineInstancetypeSpec)
}

var universal = []size{
	{"nano", 1, "512Mi"},
	{"micro", 1, "1Gi"},
	{"small", 1, "2Gi"},
	{"medium", 1, "4Gi"},
	{"2xmedium", 2, "4Gi"},
	{"large", 2, "8Gi"},
	{"xlarge", 4, "16Gi"},
	{"2xlarge", 8, "32Gi"},
	{"4xlarge", 16, "64Gi"},
	{"8xlarge", 32, "128Gi"},
}

func allSeries() []series {
	return []series{
		{"u1", "general.purpose", "shares processors and memory with others", universal, func(*v1beta1.VirtualMachineInstancetypeSpec) {}},
		{"o1", "overcommitted", "takes half of its memory from the node until it needs more", universal, overcommitted},
		{"cx1", "compute.exclusive", "has processors of its own", []size{
			{"medium", 1, "2Gi"},
			{"medium1gi", 1, "2Gi"},
			{"large", 2, "4Gi"},
			{"large1gi", 2, "4Gi"},
			{"xlarge", 4, "8Gi"},
			{"xlarge1gi", 4, "8Gi"},
			{"2xlarge", 8, "16Gi"},
			{"2xlarge1gi", 8, "16Gi"},
			{"4xlarge", 16, "32Gi"},
			{"4xlarge1gi", 16, "32Gi"},
			{"8xlarge", 32, "64Gi"},
			{"8xlarge1gi", 32, "64Gi"},
		}, exclusive},
		{"m1", "memory.intensive", "keeps much memory in huge pages", []size{
			{"large", 2, "16Gi"},
			{"large1gi", 2, "16Gi"},
			{"xlarge", 4, "32Gi"},
			{"xlarge1gi", 4, "32Gi"},
			{"2xlarge", 8, "64Gi"},
			{"2xlarge1gi", 8, "64Gi"},
			{"4xlarge", 16, "128Gi"},
			{"4xlarge1gi", 16, "128Gi"},
			{"8xlarge", 32, "256Gi"},
			{"8xlarge1gi", 32, "256Gi"},
		}, func(s *v1beta1.VirtualMachineInstancetypeSpec) { hugepages(s, "2Mi") }},
		{"n1", "network", "has processors of its own and huge pages, for moving packets", []size{
			{"medium", 4, "4Gi"}, {"large", 4, "8Gi"}, {"xlarge", 8, "16Gi"}, {"2xlarge", 16, "32Gi"}, {"4xlarge", 32, "64Gi"}, {"8xlarge", 64, "128Gi"},
		}, network},
		{"rt1", "realtime", "answers in bounded time", []size{
			{"micro", 1, "1Gi"},
			{"small", 1, "2Gi"},
			{"medium", 2, "4Gi"},
			{"large", 2, "8Gi"},
			{"xlarge", 4, "16Gi"},
			{"2xlarge", 8, "32Gi"},
			{"4xlarge", 16, "64Gi"},
			{"8xlarge", 32, "128Gi"},
		}, realtime},
	}
}

func overcommitted(s *v1beta1.VirtualMachineInstancetypeSpec) { s.Memory.OvercommitPercent = 50 }

func hugepages(s *v1beta1.VirtualMachineInstancetypeSpec, page string) {
	s.Memory.Hugepages = &v1.Hugepages{PageSize: page}
}

func exclusive(s *v1beta1.VirtualMachineInstancetypeSpec) {
	yes, auto := true, v1.IOThreadsPolicyAuto
	s.CPU.DedicatedCPUPlacement, s.CPU.IsolateEmulatorThread = &yes, &yes
	s.CPU.NUMA = &v1.NUMA{GuestMappingPassthrough: &v1.NUMAGuestMappingPassthrough{}}
	s.IOThreadsPolicy = &auto
	hugepages(s, "2Mi")
}

func network(s *v1beta1.VirtualMachineInstancetypeSpec) {
	yes := true
	s.CPU.DedicatedCPUPlacement, s.CPU.IsolateEmulatorThread = &yes, &yes
	hugepages(s, "1Gi")
}

func realtime(s *v1beta1.VirtualMachineInstancetypeSpec) {
	network(s)
	s.CPU.Realtime = &v1.Realtime{}
}

// Vendor marks what comes with the platform.
const Vendor = "virtctl"

// Instancetypes is every cluster instance type of the set.
func Instancetypes() []*v1beta1.VirtualMachineClusterInstancetype {
	var out []*v1beta1.VirtualMachineClusterInstancetype
	for _, s := range allSeries() {
		for _, size := range s.sizes {
			out = append(out, s.instancetype(size))
		}
	}
	return out
}

const pageSuffix = "1gi"

func (s series) instancetype(size size) *v1beta1.VirtualMachineClusterInstancetype {
	spec := v1beta1.VirtualMachineInstancetypeSpec{
		CPU:    v1beta1.CPUInstancetype{Guest: size.cpus},
		Memory: v1beta1.MemoryInstancetype{Guest: resource.MustParse(size.memory)},
	}
	s.shape(&spec)
	if len(size.name) > len(pageSuffix) && size.name[len(size.name)-len(pageSuffix):] == pageSuffix {
		hugepages(&spec, "1Gi")
	}
	return &v1beta1.VirtualMachineClusterInstancetype{
		TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "VirtualMachineClusterInstancetype"},
		ObjectMeta: metav1.ObjectMeta{
			Name: s.name + "." + size.name,
			Labels: map[string]string{
				"instancetype.kubevirt.io/vendor": Vendor,
				"instancetype.kubevirt.io/class":  s.class,
				"instancetype.kubevirt.io/size":   size.name,
				"instancetype.kubevirt.io/cpu":    fmt.Sprint(size.cpus),
				"instancetype.kubevirt.io/memory": size.memory,
			},
			Annotations: map[string]string{
				"instancetype.kubevirt.io/displayName": fmt.Sprintf("%s %s: %d vCPU, %s", s.name, size.name, size.cpus, size.memory),
				"instancetype.kubevirt.io/description": "A machine that " + s.about + ".",
			},
		},
		Spec: spec,
	}
}
