package wait

import (
	"context"
	"fmt"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// runDisks waits for disks, one after the other: the time is that of all together.
func runDisks(ctx context.Context, f *factory.Factory, opts *Options, kind string, wanted []string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	goal, err := volume.Goals(opts.For)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	if opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	var failed []error
	for _, name := range wanted {
		report := func(string) {}
		if f.Streams.ErrTTY {
			report = func(text string) { f.Streams.Say("%s: %s\n", name, text) }
		}
		if err := volume.Until(ctx, c, namespace, name, goal, report); err != nil {
			failed = append(failed, err)
			continue
		}
		if err := show(ctx, f, &opts.Output, c, kind, namespace, name, goal); err != nil {
			failed = append(failed, err)
		}
	}
	return problem.Join(f.Streams, f.Program, failed)
}

// show prints a disk that has reached its goal.
func show(ctx context.Context, f *factory.Factory, out *output.Flag, c *client.Client, kind, namespace, name string, goal volume.Goal) error {
	if out.IsTable() {
		f.Streams.Print("disk %s is %s\n", name, goal.Name)
		return nil
	}
	what, object := client.DataVolume(), any(nil)
	state, err := volume.Load(ctx, c, namespace, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case goal.Gone:
		return nil
	case kind == "pvc" || state.DV == nil:
		what, object = c.Claims(namespace).Kind(), state.Claim
	default:
		object = state.DV
	}
	return out.Object(f.Streams, what, name, object)
}
