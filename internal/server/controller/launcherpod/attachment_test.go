package launcherpod

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psaapi "k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
)

// A volume is plugged in namespaces that enforce Pod Security "restricted" as well: its pod is what the golden files show.
func TestAttachment(t *testing.T) {
	evaluator, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	launcher := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "virt-launcher-tiny", UID: "22222222-2222-4222-8222-222222222222"}}
	launcher.Spec.NodeName = "node01"
	volume := &v1.Volume{Name: "data"}
	volume.PersistentVolumeClaim = &v1.PersistentVolumeClaimVolumeSource{Hotpluggable: true}
	for name, claim := range map[string]Claim{"file": {Name: "data-claim"}, "block": {Name: "data-claim", Block: true}} {
		pod := RenderAttachment(Attachment{
			VMI: loadVMI(t, "minimal"), Config: clusterconfig.Effective(nil), Image: "localhost/virtctl/virt-launcher:1",
			PullSecrets: []string{"platform-pull"}, Launcher: launcher, Volume: volume, Claim: claim, Capacity: 1 << 30,
		})
		got, err := yaml.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "attachment-"+name+".yaml")
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
		results := evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}, &pod.ObjectMeta, &pod.Spec)
		if sum := psa.AggregateCheckResults(results); !sum.Allowed {
			t.Errorf("%s: forbidden: %s: %s", name, sum.ForbiddenReason(), sum.ForbiddenDetail())
		}
	}
	other := launcher.DeepCopy()
	other.UID = "other"
	if AttachmentName(launcher, "data") == AttachmentName(other, "data") || AttachmentName(launcher, "data") == AttachmentName(launcher, "more") {
		t.Error("two volumes, or a migration's two launchers, share a pod")
	}
}
