package subresource

import (
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/routes"
)

// Routes that most clusters cannot serve say what is missing, and never that they do not exist.
func TestRareRoutes(t *testing.T) {
	vmi := aVMI("Running", "", "")
	with := func(devices string) string { return strings.Replace(vmi, "devices: {}", "devices: {"+devices+"}", 1) }
	sev := func(phase, spec, status string) string {
		return strings.Replace(aVMI(phase, "", status), "devices: {}", "devices: {}, launchSecurity: {sev: {"+spec+"}}", 1)
	}
	for _, c := range []struct {
		name    string
		handler routes.Handler
		gates   []string
		object  string
		query   string
		code    int
		message string
	}{
		{"USB without the field", routes.USBRedir, nil, vmi, "", 409, "clientPassthrough"},
		{"USB too early", routes.USBRedir, nil, strings.Replace(with("clientPassthrough: {}"), "phase: Running", "phase: Scheduled", 1), "", 400, "VMI is not running"},
		{"vsock without the gate", routes.VSOCK, nil, with("autoattachVSOCK: true"), "port=1", 400, "feature gates"},
		{"vsock without the device", routes.VSOCK, []string{"VSOCK"}, vmi, "port=1", 400, "VSOCK is not attached."},
		{"vsock without a port", routes.VSOCK, []string{"VSOCK"}, with("autoattachVSOCK: true"), "", 400, "port"},
		{"vsock with a strange option", routes.VSOCK, []string{"VSOCK"}, with("autoattachVSOCK: true"), "port=1&tls=perhaps", 400, "tls"},
		{"encryption turned off", routes.SEVCertChain, []string{"-WorkloadEncryptionSEV"}, vmi, "", 400, "WorkloadEncryptionSEV"},
		{"encryption not asked for", routes.SEVCertChain, nil, vmi, "", 409, "launchSecurity.sev"},
		{"no such hardware", routes.SEVCertChain, nil, sev("Running", "", ""), "", 409, "node n1"},
		{"measured while it runs", routes.SEVMeasurement, nil, sev("Running", "attestation: {}", ""), "", 409, "VMI is not paused"},
		{"measured without attestation", routes.SEVSecret, nil, sev("Running", "", condition("Paused")), "", 409, "attestation"},
		{"session of a guest that runs", routes.SEVSession, nil, sev("Running", "", ""), "", 409, "Scheduled"},
		{"backup", routes.Backup, nil, vmi, "", 409, "ChangedBlockTracking is not enabled"},
		{"checkpoint of nothing that runs", routes.Checkpoint, nil, aVMI("Succeeded", "", ""), "", 409, "VMI is not running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := setUp(t, c.gates, c.object).do(t, c.handler, nil, c.query, "")
			if a.code != c.code || !strings.Contains(a.message, c.message) {
				t.Errorf("%d %q, want %d %q", a.code, a.message, c.code, c.message)
			}
		})
	}
}

// A dump stops the guest: what cannot work is refused before that.
func TestMemoryDump(t *testing.T) {
	const claim = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: ns, name: dump}, spec: {accessModes: [MODE], volumeMode: KIND, resources: {requests: {storage: SIZE}}}}`
	pvc := func(mode, kind, size string) string {
		return strings.NewReplacer("MODE", mode, "KIND", kind, "SIZE", size).Replace(claim)
	}
	good := pvc("ReadWriteOnce", "Filesystem", "1Gi")
	vmi := strings.Replace(aVMI("Running", "", ""), "devices: {}", "devices: {}, memory: {guest: 512Mi}", 1)
	request := func(phase string) string { return "memoryDumpRequest: {claimName: dump, phase: " + phase + "}" }
	for _, c := range []struct {
		name    string
		handler routes.Handler
		gates   []string
		status  string
		objects []string
		body    string
		code    int
		message string
		phase   v1.MemoryDumpPhase
	}{
		{"dump", routes.MemoryDump, nil, "", []string{vmi, good}, `{"claimName":"dump"}`, 202, "", v1.MemoryDumpAssociating},
		{"again", routes.MemoryDump, nil, request("Completed"), []string{vmi, good}, `{}`, 202, "", v1.MemoryDumpAssociating},
		{"twice at once", routes.MemoryDump, nil, request("InProgress"), []string{vmi, good}, `{"claimName":"dump"}`, 409, "already in progress", v1.MemoryDumpInProgress},
		{"to another claim", routes.MemoryDump, nil, strings.Replace(request("Completed"), "dump", "other", 1), []string{vmi, good}, `{"claimName":"dump"}`, 409, "already associated with different", v1.MemoryDumpCompleted},
		{"nowhere", routes.MemoryDump, nil, "", []string{vmi}, `{}`, 400, "claim name", ""},
		{"without the claim", routes.MemoryDump, nil, "", []string{vmi}, `{"claimName":"dump"}`, 404, "dump", ""},
		{"to a device", routes.MemoryDump, nil, "", []string{vmi, pvc("ReadWriteOnce", "Block", "1Gi")}, `{"claimName":"dump"}`, 409, "filesystem", ""},
		{"to what is read only", routes.MemoryDump, nil, "", []string{vmi, pvc("ReadOnlyMany", "Filesystem", "1Gi")}, `{"claimName":"dump"}`, 409, "read only", ""},
		{"too small", routes.MemoryDump, nil, "", []string{vmi, pvc("ReadWriteOnce", "Filesystem", "600Mi")}, `{"claimName":"dump"}`, 409, "612Mi", ""},
		{"of nothing that runs", routes.MemoryDump, nil, "", []string{good}, `{"claimName":"dump"}`, 409, "not running", ""},
		{"turned off", routes.MemoryDump, []string{"-DeclarativeHotplugVolumes"}, "", []string{vmi, good}, `{"claimName":"dump"}`, 400, "feature gate", ""},
		{"let go", routes.RemoveDump, nil, request("Completed"), nil, "", 202, "", v1.MemoryDumpDissociating},
		{"let go of nothing", routes.RemoveDump, nil, "", nil, "", 409, "no memory dump", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := setUp(t, c.gates, append(c.objects, aVM("Always", c.status))...)
			a := h.do(t, c.handler, nil, "", c.body)
			if a.code != c.code || !strings.Contains(a.message, c.message) {
				t.Errorf("%d %q, want %d %q", a.code, a.message, c.code, c.message)
			}
			var phase v1.MemoryDumpPhase
			if got := h.readVM(t).Status.MemoryDumpRequest; got != nil {
				phase = got.Phase
			}
			if phase != c.phase {
				t.Errorf("the request is %q, want %q", phase, c.phase)
			}
		})
	}
}
