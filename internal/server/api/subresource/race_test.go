package subresource

import (
	"context"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// A start right after the creation meets the controller's first look at the VM: that is no reason to send the user away.
func TestStartWhileTheControllerWritesTheFirstStatus(t *testing.T) {
	h := setUp(t, nil, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: ns}, spec: {runStrategy: Manual, template: {}}}`)
	faster := true
	h.Client = interceptor.NewClient(h.Client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if faster {
				faster = false
				vm := &v1.VirtualMachine{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(o), vm); err != nil {
					return err
				}
				vm.Status.PrintableStatus = v1.VirtualMachineStatusStopped
				if err := c.SubResource(sub).Update(ctx, vm); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	vm := h.readVM(t)
	if err := h.change(t.Context(), vm, nil, v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest}); err != nil {
		t.Fatal(err)
	}
	if got := seen(h.readVM(t)); got != "Manual, Start" {
		t.Errorf("the VM is %q", got)
	}
}
