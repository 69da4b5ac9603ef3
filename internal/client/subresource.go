package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	kubevirtv1 "kubevirt.io/api/core/v1"
)

// Target is a VM or VMI whose subresources are called.
type Target struct {
	// Resource is virtualmachines or virtualmachineinstances.
	Resource  string
	Namespace string
	Name      string
}

// VM is the target for a virtual machine's subresources.
func VM(namespace, name string) Target {
	return Target{Resource: "virtualmachines", Namespace: namespace, Name: name}
}

// VMI is the target for a running virtual machine's subresources.
func VMI(namespace, name string) Target {
	return Target{Resource: "virtualmachineinstances", Namespace: namespace, Name: name}
}

const subresourceRoot = "/apis/" + SubresourceGroup + "/v1"

func (t Target) path(subresource string) string {
	return subresourceRoot + "/namespaces/" + t.Namespace + "/" + t.Resource + "/" + t.Name + "/" + subresource
}

// Put calls a subresource that changes something; options may be nil.
func (c *Client) Put(ctx context.Context, target Target, subresource string, options any) error {
	req := c.short.Put().AbsPath(target.path(subresource))
	if options != nil {
		body, err := json.Marshal(options)
		if err != nil {
			return fmt.Errorf("encode the options of %s: %w", subresource, err)
		}
		req = req.SetHeader("Content-Type", "application/json").Body(body)
	}
	_, err := read(req.Do(ctx))
	return err
}

// Read calls a subresource that answers with data.
func (c *Client) Read(ctx context.Context, target Target, subresource string, query url.Values) ([]byte, error) {
	req := c.short.Get().AbsPath(target.path(subresource))
	for name, values := range query {
		for _, value := range values {
			req = req.Param(name, value)
		}
	}
	return read(req.Do(ctx))
}

// Start starts a virtual machine.
func (c *Client) Start(ctx context.Context, namespace, name string, opts *kubevirtv1.StartOptions) error {
	return c.Put(ctx, VM(namespace, name), "start", opts)
}

// Stop stops a virtual machine.
func (c *Client) Stop(ctx context.Context, namespace, name string, opts *kubevirtv1.StopOptions) error {
	return c.Put(ctx, VM(namespace, name), "stop", opts)
}

// Restart stops a virtual machine and starts it again.
func (c *Client) Restart(ctx context.Context, namespace, name string, opts *kubevirtv1.RestartOptions) error {
	return c.Put(ctx, VM(namespace, name), "restart", opts)
}

// Migrate moves a running virtual machine to another node.
func (c *Client) Migrate(ctx context.Context, namespace, name string, opts *kubevirtv1.MigrateOptions) error {
	return c.Put(ctx, VM(namespace, name), "migrate", opts)
}

// Pause freezes a running virtual machine's processors.
func (c *Client) Pause(ctx context.Context, namespace, name string, opts *kubevirtv1.PauseOptions) error {
	return c.Put(ctx, VMI(namespace, name), "pause", opts)
}

// Unpause lets a paused virtual machine go on.
func (c *Client) Unpause(ctx context.Context, namespace, name string, opts *kubevirtv1.UnpauseOptions) error {
	return c.Put(ctx, VMI(namespace, name), "unpause", opts)
}

// ExpandSpec answers with the VM in which instance type and preference have been filled in.
func (c *Client) ExpandSpec(ctx context.Context, vm *kubevirtv1.VirtualMachine, namespace string) (*kubevirtv1.VirtualMachine, error) {
	body, err := json.Marshal(vm)
	if err != nil {
		return nil, fmt.Errorf("encode the virtual machine: %w", err)
	}
	req := c.short.Put().AbsPath(subresourceRoot+"/namespaces/"+namespace+"/expand-vm-spec").
		SetHeader("Content-Type", "application/json").Body(body)
	return decode[kubevirtv1.VirtualMachine](req.Do(ctx), VirtualMachine())
}

// ServerVersion is what the platform in the cluster says about itself.
func (c *Client) ServerVersion(ctx context.Context, into any) error {
	body, err := read(c.short.Get().AbsPath(subresourceRoot + "/version").Do(ctx))
	if err != nil {
		return err
	}
	if err := unmarshal(body, into); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	return nil
}

// Log opens a container's log.
func (c *Client) Log(ctx context.Context, namespace, pod string, query url.Values) (io.ReadCloser, error) {
	req := c.long.Get().AbsPath(Core("Pod", "pods", "pod").path(namespace), pod, "log")
	for name, values := range query {
		for _, value := range values {
			req = req.Param(name, value)
		}
	}
	return req.Stream(ctx)
}

// ReadInto calls a subresource that answers with an object.
func (c *Client) ReadInto(ctx context.Context, target Target, subresource string, into any) error {
	body, err := c.Read(ctx, target, subresource, nil)
	if err != nil {
		return err
	}
	if err := unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", subresource, err)
	}
	return nil
}

// Ask calls a subresource that answers with an object and takes options in the body of its GET.
func (c *Client) Ask(ctx context.Context, target Target, subresource string, options, into any) error {
	question, err := json.Marshal(options)
	if err != nil {
		return fmt.Errorf("encode the options of %s: %w", subresource, err)
	}
	answer, err := read(c.short.Get().AbsPath(target.path(subresource)).SetHeader("Content-Type", "application/json").Body(question).Do(ctx))
	if err != nil {
		return err
	}
	if err := unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", subresource, err)
	}
	return nil
}
