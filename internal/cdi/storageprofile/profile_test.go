package storageprofile

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

func show(sets []cdi.ClaimPropertySet) string {
	var out []string
	for _, s := range sets {
		out = append(out, encode(s.AccessModes[0], s.VolumeMode))
	}
	return strings.Join(out, ",")
}

// A user who names a class gets the modes its storage does best, and knows why when it is not known.
func TestAdvise(t *testing.T) {
	for _, test := range []struct {
		provisioner string
		parameters  map[string]string
		sets        string
		reason      string
		clone       cdi.CDICloneStrategy
		cron        cdi.DataImportCronSourceFormat
		minimum     string
	}{
		{"virtctl.io/local", nil, "oF,oB", ReasonRecognized, "copy", "", ""},
		{"virtctl.io/shared", nil, "xF,xB,oF,oB", ReasonRecognized, "copy", "", ""},
		{"rook-ceph.rbd.csi.ceph.com", nil, "xB,oB,oF", ReasonRecognized, "csi-clone", "snapshot", ""},
		{"ebs.csi.aws.com", map[string]string{"type": "gp3"}, "oB", ReasonRecognized, "", "", "1Gi"},
		{"ebs.csi.aws.com", map[string]string{"type": "st1"}, "oB", ReasonRecognized, "", "", ""},
		{"kubevirt.io.hostpath-provisioner", map[string]string{"overlayCSI": ""}, "xF", ReasonRecognized, "", "", ""},
		{"driver.longhorn.io", map[string]string{"migratable": "true"}, "xB,oB", ReasonRecognized, "", "", ""},
		{"pxd.portworx.com", map[string]string{"sharedv4_mount_options": "vers=3.0,nolock"}, "xF,oF", ReasonRecognized, "csi-clone", "", ""},
		{"pxd.portworx.com", map[string]string{"backend": "pure_block"}, "xB,oB,oF", ReasonRecognized, "csi-clone", "", ""},
		{"csi.trident.netapp.io", map[string]string{"backendType": "google-cloud-netapp-volumes", "selector": "a=b; performance=flex"}, "xF,oF", ReasonRecognized, "snapshot", "snapshot", "1Gi"},
		{"csi.trident.netapp.io", nil, "oF", ReasonParameters, "", "", ""},
		{"vpc.file.csi.ibm.io", map[string]string{"profile": "dp2", "vmState": "true"}, "oF", ReasonRecognized, "snapshot", "snapshot", "10Gi"},
		{"csi.san.synology.com", map[string]string{"protocol": "smb"}, "xF,oF", ReasonRecognized, "csi-clone", "", "1Gi"},
		{"example.com/new", nil, "oF", ReasonUnrecognized, "", "", ""},
		{"stork-snapshot", nil, "", ReasonUnsupported, "", "", ""},
	} {
		a := Advise(&storagev1.StorageClass{Provisioner: test.provisioner, Parameters: test.parameters}, nil)
		if show(a.Sets) != test.sets || a.Reason != test.reason || a.Clone != test.clone || a.Cron != test.cron || a.Minimum != test.minimum {
			t.Errorf("%s %v: %s %+v", test.provisioner, test.parameters, show(a.Sets), a)
		}
		if a.Recognized != (a.Message == "") {
			t.Errorf("%s: recognized %v, but says %q", test.provisioner, a.Recognized, a.Message)
		}
	}
}

// Volumes made by hand tell what their class can do.
func TestVolumesByHand(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "hand"}, Provisioner: noProvisioner}
	volumes := []corev1.PersistentVolume{
		{Spec: corev1.PersistentVolumeSpec{StorageClassName: "hand", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}}},
		{Spec: corev1.PersistentVolumeSpec{StorageClassName: "hand", VolumeMode: &block, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}}},
		{Spec: corev1.PersistentVolumeSpec{StorageClassName: "other", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}}},
	}
	if a := Advise(class, volumes); show(a.Sets) != "xB,oF" || !a.Recognized {
		t.Errorf("%s %+v", show(a.Sets), a)
	}
	if a := Advise(class, nil); show(a.Sets) != "oF" || a.Recognized {
		t.Errorf("without volumes: %+v", a)
	}
}

// A claim that says one half gets the other half that goes with it.
func TestChoose(t *testing.T) {
	sets := parseSets("xB,oB,oF")
	file := corev1.PersistentVolumeFilesystem
	for _, test := range []struct {
		access []corev1.PersistentVolumeAccessMode
		volume *corev1.PersistentVolumeMode
		want   string
	}{
		{nil, nil, "xB"},
		{nil, &file, "oF"},
		{[]corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, nil, "oB"},
		{[]corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, &file, ""},
	} {
		got, ok := Choose(sets, test.access, test.volume)
		if ok != (test.want != "") || ok && show([]cdi.ClaimPropertySet{got}) != test.want {
			t.Errorf("%v %v: %+v", test.access, test.volume, got)
		}
	}
}

// Every line of the table is well formed: a typing error in it would cost a user the right modes.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 5 || len(f) > 6 || seen[f[0]] {
			t.Errorf("line %q", line)
			continue
		}
		seen[f[0]] = true
		if f[1] != "-" {
			for _, set := range strings.Split(f[1], ",") {
				if len(set) != 2 || !strings.ContainsAny(set[:1], "xor") || !strings.ContainsAny(set[1:], "BF") {
					t.Errorf("%s: set %q", f[0], set)
				}
			}
		}
		if !slices.Contains([]string{"-", "copy", "snapshot", "csi-clone"}, f[2]) || !slices.Contains([]string{"-", "snapshot", "pvc"}, f[3]) {
			t.Errorf("%s: clone %q, cron %q", f[0], f[2], f[3])
		}
		if f[4] != "-" {
			if _, err := resource.ParseQuantity(f[4]); err != nil {
				t.Errorf("%s: %v", f[0], err)
			}
		}
	}
	if len(seen) < 80 {
		t.Errorf("only %d provisioners", len(seen))
	}
}
