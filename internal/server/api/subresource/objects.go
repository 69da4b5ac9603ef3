package subresource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	k8sv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Texts of the public contract: clients show them, some read them.
const (
	vmNotRunning      = "VM is not running"
	vmiNotRunning     = "VMI is not running"
	vmiNotPaused      = "VMI is not paused"
	vmiPaused         = "VMI is paused"
	snapshotRunning   = "VM snapshot is in progress"
	agentMissing      = "VMI does not have guest agent connected"
	volumesRecovery   = "VM recovery required: the migration of its volumes did not finish; see the condition ManualRecoveryRequired"
	requestsUnderway  = "unable to complete request: stop/start already underway"
	bodyMax           = 3 << 20
	jsonPatchRejected = "the server rejected our request due to an error in our request"
)

// vmConflict names the resource as errors always have.
func vmConflict(name, format string, args ...any) error {
	return apierrors.NewConflict(v1.Resource("virtualmachine"), name, fmt.Errorf(format, args...))
}

func vmiConflict(name, format string, args ...any) error {
	return apierrors.NewConflict(v1.Resource("virtualmachineinstance"), name, fmt.Errorf(format, args...))
}

func (s *Server) vm(r *request) (*v1.VirtualMachine, error) {
	vm := &v1.VirtualMachine{}
	if err := s.Client.Get(r.Context(), r.key(), vm); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, apierrors.NewNotFound(v1.Resource("virtualmachine"), r.name)
		}
		return nil, fmt.Errorf("get VM %s/%s: %w", r.namespace, r.name, err)
	}
	return vm, nil
}

func (s *Server) vmi(r *request) (*v1.VirtualMachineInstance, error) {
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return nil, err
	}
	if vmi == nil {
		return nil, apierrors.NewNotFound(v1.Resource("virtualmachineinstance"), r.name)
	}
	return vmi, nil
}

// findVMI gives nil when there is none.
func (s *Server) findVMI(ctx context.Context, key client.ObjectKey) (*v1.VirtualMachineInstance, error) {
	vmi := &v1.VirtualMachineInstance{}
	if err := s.Client.Get(ctx, key, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("get VMI %s: %w", key, err)
	}
	return vmi, nil
}

// options decodes a body of JSON or YAML. An empty body leaves the options as they are.
func options(r *request, into any) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	err = yaml.NewYAMLOrJSONDecoder(bytes.NewReader(body), 1024).Decode(into)
	if err != nil && !errors.Is(err, io.EOF) {
		return apierrors.NewBadRequest(fmt.Sprintf("Can not unmarshal Request body to struct, error: %s", err))
	}
	return nil
}

func readBody(r *request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(r.ResponseWriter, r.Body, bodyMax))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("Can not read Request body, error: %s", err))
	}
	return bytes.TrimSpace(body), nil
}

func vmCondition(vm *v1.VirtualMachine, kind v1.VirtualMachineConditionType) bool {
	for _, c := range vm.Status.Conditions {
		if c.Type == kind {
			return c.Status == k8sv1.ConditionTrue
		}
	}
	return false
}

func vmiCondition(vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType) bool {
	for _, c := range vmi.Status.Conditions {
		if c.Type == kind {
			return c.Status == k8sv1.ConditionTrue
		}
	}
	return false
}

// patch is a JSON patch in the making. Tests in it see to it that nobody's newer decision is overwritten.
type patch []map[string]any

func (p *patch) test(path string, value any) { *p = append(*p, op("test", path, value)) }
func (p *patch) add(path string, value any)  { *p = append(*p, op("add", path, value)) }
func (p *patch) replace(path string, value any) {
	*p = append(*p, op("replace", path, value))
}
func (p *patch) remove(path string) { *p = append(*p, map[string]any{"op": "remove", "path": path}) }

func op(kind, path string, value any) map[string]any {
	return map[string]any{"op": kind, "path": path, "value": value}
}

func (p patch) raw() (client.Patch, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode a patch: %w", err)
	}
	return client.RawPatch(types.JSONPatchType, data), nil
}

func (s *Server) patchObject(ctx context.Context, o client.Object, p patch, dryRun []string) error {
	data, err := p.raw()
	if err != nil {
		return err
	}
	return patchError(o, s.Client.Patch(ctx, o, data, &client.PatchOptions{DryRun: dryRun}))
}

func (s *Server) patchStatus(ctx context.Context, o client.Object, p patch, dryRun []string) error {
	data, err := p.raw()
	if err != nil {
		return err
	}
	return patchError(o, s.Client.Status().Patch(ctx, o, data,
		&client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: dryRun}}))
}

// patchError tells a failed test in a patch from other errors: the object is not as we saw it a moment ago.
func patchError(o client.Object, err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		return err
	}
	if d := status.ErrStatus.Details; d != nil && len(d.Causes) > 0 {
		return err
	}
	resource := "virtualmachine"
	if _, ok := o.(*v1.VirtualMachineInstance); ok {
		resource = "virtualmachineinstance"
	}
	return apierrors.NewConflict(v1.Resource(resource), o.GetName(),
		fmt.Errorf("%s: it changed in the meantime, try again", jsonPatchRejected))
}

func accepted(r *request) error {
	r.WriteHeader(http.StatusAccepted)
	return nil
}
