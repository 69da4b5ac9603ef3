package describe

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// runDisks describes disks.
func runDisks(ctx context.Context, f *factory.Factory, opts *Options, wanted []string) error {
	c, err := f.Client()
	if err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	var failed []error
	for i, name := range wanted {
		if i > 0 {
			f.Streams.Print("\n")
		}
		state, err := volume.Load(ctx, c, namespace, name)
		if err == nil && state.DV == nil && state.Claim == nil {
			err = problem.New(problem.NotFound, "there is no disk %q in namespace %q; see \"virtctl get disks -n %s\" and \"virtctl get dv -n %s\"", name, namespace, namespace, namespace)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("cannot describe %s: %w", name, err))
			continue
		}
		d := &diskPage{page: page{streams: f.Streams, now: time.Now(), events: opts.Events}, client: c, state: state, namespace: namespace, name: name}
		if err := d.print(ctx); err != nil {
			failed = append(failed, err)
		}
	}
	return problem.Join(f.Streams, f.Program, failed)
}

// diskPage prints one disk.
type diskPage struct {
	page
	client          *client.Client
	state           volume.State
	namespace, name string
}

func (d *diskPage) print(ctx context.Context) error {
	d.line("Name", "%s", d.name)
	d.line("Namespace", "%s", d.namespace)
	d.line("Phase", "%s", d.state.Phase())
	if !d.state.Filled() && !d.state.Ready() {
		for i, why := range volume.Why(ctx, d.client, d.state) {
			if i == 0 {
				d.line("Why", "%s", why)
			} else {
				d.streams.Print("%-14s %s\n", "", why)
			}
		}
	}
	d.dataVolume()
	d.claim()
	pods, err := volume.Workers(ctx, d.client, d.namespace, d.name)
	for _, pod := range pods {
		d.line("Pod", "%s (%s)", pod.Name, pod.Status.Phase)
	}
	for _, section := range []func() error{d.conditionTable, func() error { return d.eventTable(ctx, pods) }} {
		if err := section(); err != nil {
			return err
		}
	}
	if err != nil {
		d.streams.Say("warning: not everything could be read: %s\n", err)
	}
	return nil
}

func (d *diskPage) dataVolume() {
	dv := d.state.DV
	if dv == nil {
		return
	}
	d.line("Created", "%s", d.ago(dv.CreationTimestamp))
	d.line("Source", "%s", volume.Source(dv))
	d.line("Asked for", "%s", volume.Size(dv))
	if dv.Status.Progress != "" {
		d.line("Progress", "%s", dv.Status.Progress)
	}
	if dv.Status.RestartCount > 0 {
		d.line("Restarts", "%d", dv.Status.RestartCount)
	}
}

func (d *diskPage) claim() {
	claim := d.state.Claim
	if claim == nil {
		d.line("Claim", "none yet")
		return
	}
	d.line("Claim", "%s (%s)", claim.Name, claim.Status.Phase)
	mode := corev1.PersistentVolumeFilesystem
	if d.state.Block() {
		mode = corev1.PersistentVolumeBlock
	}
	d.line("Volume", "%s, %s, %s", first(volume.Access(claim.Spec.AccessModes), "no access mode"), mode, volume.Bytes(volume.Capacity(claim)))
	if claim.Spec.StorageClassName != nil {
		d.line("Storage class", "%s", *claim.Spec.StorageClassName)
	}
	if digest := claim.Annotations[names.AnnContentDigest]; digest != "" {
		d.line("Content", "%s", digest)
	}
}

func (d *diskPage) conditionTable() error {
	dv := d.state.DV
	if dv == nil || len(dv.Status.Conditions) == 0 {
		return nil
	}
	var rows [][]string
	for _, c := range dv.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, oneLine(c.Message)})
	}
	return d.section("Conditions", []string{"TYPE", "STATUS", "REASON", "MESSAGE"}, rows)
}

func (d *diskPage) eventTable(ctx context.Context, pods []corev1.Pod) error {
	events, err := volume.Events(ctx, d.client, d.namespace, volume.Names(d.state, pods)...)
	if err != nil {
		d.streams.Say("warning: not everything could be read: %s\n", err)
		return nil
	}
	d.machine = &machine{events: events}
	return d.eventList()
}
