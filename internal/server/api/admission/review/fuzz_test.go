package review

import (
	"encoding/json"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/randfill"

	"virtctl/internal/server/api/admission"
)

// everyReview sends an object to every webhook. No answer may be a crash, and what was completed may be completed again.
func everyReview(t *testing.T, s *Server, raw []byte) {
	for _, h := range admission.Hooks() {
		for _, op := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			request := createRequest(raw, "alice")
			request.Operation, request.OldObject = op, runtime.RawExtension{Raw: raw}
			request.Resource.Resource = "virtualmachines"
			answer := ask(t, s, h.Handler, request)
			if !h.Mutating || !answer.Allowed || len(answer.Patch) == 0 {
				continue
			}
			p, err := jsonpatch.DecodePatch(answer.Patch)
			if err != nil {
				t.Fatal(err)
			}
			if next, err := p.Apply(raw); err == nil {
				request.Object.Raw = next
				ask(t, s, h.Handler, request)
			}
		}
	}
}

// Whoever may create objects sends what he likes.
func FuzzAdmission(f *testing.F) {
	f.Add([]byte(plainVM))
	f.Add([]byte(plainVMI))
	f.Add([]byte(`{"spec":{"template":{"spec":{"domain":{"devices":{"disks":[{"name":"a","blockSize":{}},{"cdrom":{}}],"watchdog":{},"gpus":[{}]},"cpu":{"sockets":4294967295},"features":{"hyperv":{"evmcs":{},"spinlocks":{}}},"firmware":{"kernelBoot":{}},"memory":{"hugepages":{"pageSize":"0"}}},"volumes":[{"cloudInitNoCloud":{}}]}}}}`))
	f.Add([]byte(`{"spec":{"vmiName":"x","selector":{},"template":{}}}`))
	f.Add([]byte(`{"metadata":{"deletionTimestamp":"x"},"spec":{"domain":{"clock":{"timer":{}},"launchSecurity":{}},"livenessProbe":{},"affinity":{"nodeAffinity":{}}}}`))
	s := testServer(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if json.Valid(raw) {
			everyReview(t, s, raw)
		}
	})
}

// FuzzSpecs fills the published types at random, which reaches every field of them.
func FuzzSpecs(f *testing.F) {
	for _, seed := range []string{"", "0123456789abcdefghij", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\x07\x06\x05\x04\x03\x02\x01\x00"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	s := testServer(f)
	f.Fuzz(func(t *testing.T, seed []byte, vm bool) {
		filler := randfill.NewFromGoFuzz(seed).NilChance(.3).NumElements(0, 3).MaxDepth(12).Funcs(
			func(q *resource.Quantity, c randfill.Continue) {
				*q = *resource.NewMilliQuantity(c.Int63(), resource.BinarySI)
			},
			func(at *metav1.Time, _ randfill.Continue) { *at = metav1.Time{} },
			func(d *metav1.Duration, _ randfill.Continue) { *d = metav1.Duration{} },
			func(p *intstr.IntOrString, c randfill.Continue) { *p = intstr.FromInt32(c.Int31()) },
			func(m *[]metav1.ManagedFieldsEntry, _ randfill.Continue) { *m = nil },
		)
		var object any
		if vm {
			o := &v1.VirtualMachine{}
			filler.Fill(o)
			o.DeletionTimestamp = nil
			object = o
		} else {
			o := &v1.VirtualMachineInstance{}
			filler.Fill(o)
			o.DeletionTimestamp = nil
			object = o
		}
		raw, err := json.Marshal(object)
		if err != nil {
			return
		}
		everyReview(t, s, raw)
	})
}
