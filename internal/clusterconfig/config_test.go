package clusterconfig

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
)

func kubevirt(change func(*v1.KubeVirtConfiguration)) *v1.KubeVirt {
	kv := &v1.KubeVirt{}
	change(&kv.Spec.Configuration)
	return kv
}

func ptr[T any](v T) *T { return &v }

// A cluster whose KubeVirt sets nothing must behave as the contract says.
func TestDefaults(t *testing.T) {
	c := Effective(nil)
	checks := []struct {
		what      string
		got, want any
	}{
		{"emulation", c.UseEmulation, false},
		{"default binding", c.Network.DefaultBinding, "bridge"},
		{"bridge on pod network", c.Network.PermitBridgeOnPodNetwork, true},
		{"eviction strategy", c.EvictionStrategy, v1.EvictionStrategyNone},
		{"rollout strategy", c.RolloutStrategy, v1.VMRolloutStrategyLiveUpdate},
		{"cpu allocation ratio", c.Compute.CPUAllocationRatio, 10},
		{"memory overcommit", c.Compute.MemoryOvercommit, 100},
		{"overhead ratio", c.Compute.OverheadRatio, 1.0},
		{"amd64 machine", c.Machines.For("amd64").Type, "q35"},
		{"arm64 machine", c.Machines.For("arm64").Type, "virt"},
		{"s390x machine", c.Machines.For("s390x").Type, "s390-ccw-virtio"},
		{"hotplug ratio", c.Live.MaxHotplugRatio, uint32(4)},
		{"less space", c.Storage.LessSpacePercent, 10},
		{"reserve", c.Storage.ReserveBytes, uint64(131072)},
		{"disk memory limit", c.Storage.DiskMemoryLimit.String(), "2000Mi"},
		{"log verbosity", c.LogVerbosity.VirtHandler, uint(2)},
		{"balloon period", c.Launcher.BalloonStatsSeconds, uint32(10)},
		{"serial console log", c.Launcher.SerialConsoleLog, true},
		{"migrations per cluster", c.Migration.ParallelPerCluster, uint32(5)},
		{"migrations per node", c.Migration.ParallelOutboundPerNode, uint32(2)},
		{"max downtime", c.Migration.MaxDowntimeMillis, uint64(900)},
		{"completion timeout", c.Migration.CompletionSecondsPerGiB, int64(150)},
		{"drain taint", c.Migration.NodeDrainTaintKey, "kubevirt.io/drain"},
		{"selinux level", c.Migration.MatchSELinuxLevel, true},
		{"instancetype policy", c.InstancetypePolicy, v1.Reference},
		{"smbios", c.SMBIOS.Manufacturer, "KubeVirt"},
	}
	for _, check := range checks {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

// What the administrator sets wins, and nonsense does not break VMs.
func TestOverrides(t *testing.T) {
	c := Effective(kubevirt(func(k *v1.KubeVirtConfiguration) {
		k.MachineType = "pc-q35-9.0"
		k.ArchitectureConfiguration = &v1.ArchConfiguration{
			DefaultArchitecture: "arm64", Arm64: &v1.ArchSpecificConfiguration{MachineType: "virt-9.0"},
		}
		k.AdditionalGuestMemoryOverheadRatio = ptr("Inf")
		k.DeveloperConfiguration = &v1.DeveloperConfiguration{UseEmulation: true, CPUAllocationRatio: -3, MemoryOvercommit: 150}
		k.MigrationConfiguration = &v1.MigrationConfiguration{AllowPostCopy: ptr(true), BandwidthPerMigration: ptr(resource.MustParse("64Mi"))}
		k.EvictionStrategy = ptr(v1.EvictionStrategyLiveMigrate)
		k.NetworkConfiguration = &v1.NetworkConfiguration{NetworkInterface: "masquerade", PermitBridgeInterfaceOnPodNetwork: ptr(false)}
		k.VirtualMachineOptions = &v1.VirtualMachineOptions{DisableSerialConsoleLog: &v1.DisableSerialConsoleLog{}}
	}))
	checks := []struct {
		what      string
		got, want any
	}{
		{"emulation", c.UseEmulation, true},
		{"deprecated machine type", c.Machines.For("amd64").Type, "pc-q35-9.0"},
		{"architecture's machine type", c.Machines.For("arm64").Type, "virt-9.0"},
		{"untouched globs", len(c.Machines.For("arm64").Emulated), 1},
		{"default architecture", c.DefaultArchitecture, "arm64"},
		{"infinite ratio ignored", c.Compute.OverheadRatio, 1.0},
		{"negative ratio ignored", c.Compute.CPUAllocationRatio, 10},
		{"overcommit", c.Compute.MemoryOvercommit, 150},
		{"disruption follows post-copy", c.Migration.AllowWorkloadDisruption, true},
		{"bandwidth", c.Migration.Bandwidth.String(), "64Mi"},
		{"eviction", c.EvictionStrategy, v1.EvictionStrategyLiveMigrate},
		{"binding", c.Network.DefaultBinding, "masquerade"},
		{"bridge", c.Network.PermitBridgeOnPodNetwork, false},
		{"serial log", c.Launcher.SerialConsoleLog, false},
	}
	for _, check := range checks {
		if check.got != check.want {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

func TestGate(t *testing.T) {
	c := Effective(kubevirt(func(k *v1.KubeVirtConfiguration) {
		k.DeveloperConfiguration = &v1.DeveloperConfiguration{
			FeatureGates:         []string{GateHostDisk, "Passt", "Novelty"},
			DisabledFeatureGates: []string{GateRebootPolicy, "LiveMigration"},
		}
	}))
	for gate, want := range map[string]bool{
		GateSnapshot:     true,  // beta
		GateRebootPolicy: false, // beta, disabled
		GateHostDisk:     true,  // alpha, listed
		GateVSOCK:        false, // alpha, not listed
		"LiveMigration":  true,  // GA cannot be disabled
		"Passt":          false, // discontinued cannot be enabled
		"Novelty":        true,  // a gate newer than this list
		"Unheard":        false,
	} {
		if got := c.Gate(gate); got != want {
			t.Errorf("gate %s: got %v, want %v", gate, got, want)
		}
	}
}

func TestSource(t *testing.T) {
	var s Source
	if s.Get().UseEmulation {
		t.Error("a source without a KubeVirt should give the defaults")
	}
	var told []bool
	s.OnChange(func(c Config) { told = append(told, c.UseEmulation) })
	s.Set(kubevirt(func(k *v1.KubeVirtConfiguration) {
		k.DeveloperConfiguration = &v1.DeveloperConfiguration{UseEmulation: true}
	}))
	if !s.Get().UseEmulation {
		t.Error("the new configuration is not seen")
	}
	s.Set(nil)
	if s.Get().UseEmulation {
		t.Error("a deleted KubeVirt should give the defaults")
	}
	if len(told) != 2 || !told[0] || told[1] {
		t.Errorf("listeners heard %v", told)
	}
}
