package launcherpod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psaapi "k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/network"
)

// virt-handler looks for a secondary network under the name the pod was told to give it.
func TestSecondaryLink(t *testing.T) {
	for _, name := range []string{"storage", "", "a-network-with-a-rather-long-name"} {
		if got, want := SecondaryLink(name), network.SecondaryLink(name); got != want {
			t.Errorf("network %q: the pod calls it %s, the handler looks for %s", name, got, want)
		}
	}
}

func loadVMI(t *testing.T, name string) *v1.VirtualMachineInstance {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".vmi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := yaml.UnmarshalStrict(text, vmi); err != nil {
		t.Fatal(err)
	}
	return vmi
}

func input(t *testing.T, name string) Input {
	in := Input{VMI: loadVMI(t, name), Config: clusterconfig.Effective(nil), Image: "localhost/virtctl/virt-launcher:1"}
	switch name {
	case "volumes":
		in.Claims = map[string]Claim{"file": {Name: "file-claim"}, "block": {Name: "block-claim", Block: true}}
		in.PullSecrets = []string{"platform-pull"}
	case "configured":
		in.Config = clusterconfig.Effective(customCluster())
		in.AutoLimits = AutoLimits{CPU: true, MemoryRatio: 2}
	}
	return in
}

func customCluster() *v1.KubeVirt {
	profile, ratio, postCopy := "profiles/vm.json", "1.5", true
	kv := &v1.KubeVirt{}
	kv.Spec.Configuration = v1.KubeVirtConfiguration{
		DeveloperConfiguration: &v1.DeveloperConfiguration{
			UseEmulation: true, MemoryOvercommit: 200, CPUAllocationRatio: 4, NodeSelectors: map[string]string{"pool": "vms"},
		},
		AdditionalGuestMemoryOverheadRatio: &ratio,
		ImagePullPolicy:                    corev1.PullIfNotPresent,
		DefaultRuntimeClass:                "crun",
		MigrationConfiguration:             &v1.MigrationConfiguration{AllowPostCopy: &postCopy},
		SeccompConfiguration: &v1.SeccompConfiguration{VirtualMachineInstanceProfile: &v1.VirtualMachineInstanceProfile{
			CustomProfile: &v1.CustomProfile{LocalhostProfile: &profile},
		}},
	}
	return kv
}

func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.vmi.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".vmi.yaml")
	}
	return files
}

// The golden files are what a cluster sees of a VM: a change here is a change for every running cluster.
func TestRenderGolden(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			pod, err := Render(input(t, name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".pod.yaml")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the pod differs from %s; if that is meant, run UPDATE=1 go test.\n%s", golden, got)
			}
		})
	}
}

// A namespace that enforces Pod Security "restricted" must accept every VM's pod.
func TestAMachineCanAskForAFailure(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	if got := command(vmi); len(got) != 1 {
		t.Errorf("the launcher is started with %q", got)
	}
	vmi.Annotations = map[string]string{v1.FuncTestLauncherFailFastAnnotation: ""}
	if got := command(vmi); len(got) != 2 || got[1] != "fail" {
		t.Errorf("the failing launcher is started with %q", got)
	}
}

func TestRestricted(t *testing.T) {
	evaluator, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range cases(t) {
		pod, err := Render(input(t, name))
		if err != nil {
			t.Fatal(err)
		}
		results := evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()},
			&pod.ObjectMeta, &pod.Spec)
		if len(results) == 0 {
			t.Fatal("no check ran")
		}
		if sum := psa.AggregateCheckResults(results); !sum.Allowed {
			t.Errorf("%s: forbidden: %s: %s", name, sum.ForbiddenReason(), sum.ForbiddenDetail())
		}
	}
}

// Kubernetes refuses a pod with two volumes of one name, or a mount without its volume.
func TestVolumesFit(t *testing.T) {
	for _, name := range cases(t) {
		pod, err := Render(input(t, name))
		if err != nil {
			t.Fatal(err)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Spec.Volumes {
			if volumes[v.Name] {
				t.Errorf("%s: two volumes are named %s", name, v.Name)
			}
			volumes[v.Name] = true
		}
		c := pod.Spec.Containers[0]
		used := map[string]bool{}
		for _, m := range c.VolumeMounts {
			used[m.Name] = true
		}
		for _, d := range c.VolumeDevices {
			used[d.Name] = true
		}
		for v := range volumes {
			if !used[v] {
				t.Errorf("%s: volume %s is not mounted", name, v)
			}
			delete(used, v)
		}
		for u := range used {
			t.Errorf("%s: %s is mounted but no volume", name, u)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	vmi := loadVMI(t, "minimal")
	vmi.Spec.Volumes = append(vmi.Spec.Volumes, v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostDisk: &v1.HostDisk{Path: "/data/disk.img"}}})
	_, err := Render(Input{VMI: vmi, Config: clusterconfig.Effective(nil)})
	if err == nil || !strings.Contains(err.Error(), "HostDisk") {
		t.Errorf("a host disk without its feature gate: %v", err)
	}
	vmi = loadVMI(t, "minimal")
	vmi.Spec.Domain.Memory.Guest = nil
	if _, err = Render(Input{VMI: vmi, Config: clusterconfig.Effective(nil)}); err == nil || !strings.Contains(err.Error(), "spec.domain.memory.guest") {
		t.Errorf("a guest without memory: %v", err)
	}
}

// Two controllers, or one with an old cache, must arrive at the same name; two VMIs of one name must not.
func TestName(t *testing.T) {
	a, b := loadVMI(t, "minimal"), loadVMI(t, "minimal")
	if Name(a) != Name(b) {
		t.Error("the name is not stable")
	}
	b.UID = "other"
	if Name(a) == Name(b) {
		t.Error("a recreated VMI gets the pod of its predecessor")
	}
	a.Name = strings.Repeat("long.", 40)
	if n := Name(a); len(n) > 63 || !strings.HasPrefix(n, "virt-launcher-long.") {
		t.Errorf("name of a VMI with a long name: %q", n)
	}
	if h := Hostname(a); h != "long" {
		t.Errorf("hostname %q", h)
	}
	if id := InstanceID(a); len(id) > 63 {
		t.Errorf("label value %q is too long", id)
	}
}
