// Package imageupload is the command that brings a disk image into the cluster.
package imageupload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "image-upload (dv|pvc) NAME --image-path (FILE|-|URL)",
		Short: "Bring a disk image into the cluster",
		Long: `Bring a disk image into the cluster: from a file, from a pipe, or from a web address or a registry.

The image's format and size are read before anything is created, and the volume is made to fit. Raw, qcow2, vmdk, vdi, vhd, vhdx and ISO
images are understood, also compressed with gzip, xz or zstd; the disk in the cluster is always raw.

An upload that was cut off goes on where it stopped: run the same command again. The content is compared by its checksum at the end; the
same content again is recognised and not sent, nor are the zeros of a raw image. No ingress is needed: without an upload proxy that can be
reached, the image goes through the API server, with your own credentials, or straight to the pod that takes it where that can be reached
from here.`,
		Example: `  # A new disk of the right size
  {{ProgramName}} image-upload dv fedora --image-path fedora.qcow2

  # A larger one, in a storage class of choice
  {{ProgramName}} image-upload dv fedora --image-path fedora.qcow2 --size 20Gi --storage-class fast

  # From a pipe: the size cannot be known beforehand
  zcat disk.raw.gz | {{ProgramName}} image-upload dv data --image-path - --size 10Gi

  # From the web or from a registry: the cluster fetches it
  {{ProgramName}} image-upload dv debian --image-path https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2
  {{ProgramName}} image-upload dv fedora --image-path docker://quay.io/containerdisks/fedora:latest --size 6Gi

  # Into a claim, and with a DataSource that machines can be made from
  {{ProgramName}} image-upload pvc golden --image-path golden.qcow2 --datasource

  # The files of a tar archive instead of a disk image
  {{ProgramName}} image-upload dv files --archive-path files.tar --size 5Gi`,
		ValidArgs: []string{"dv", "pvc"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.bind(cmd)
	return cmd
}

// Run brings the image in.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if err := opts.check(args); err != nil {
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
	src, err := open(ctx, f, opts)
	if err != nil {
		return err
	}
	defer src.close()
	src.look(ctx)
	j := &job{
		factory: f, client: c, options: opts, namespace: namespace, source: src, began: time.Now(),
		result: Result{Kind: opts.Kind, Namespace: namespace, Name: opts.Name, Source: src.name, Format: src.info.Format, VirtualSize: src.info.VirtualSize},
	}
	err = j.run(ctx)
	if err != nil && ctx.Err() != nil {
		return j.interrupted(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot upload to %s %s: %w", opts.Kind, opts.Name, err)
	}
	j.result.Seconds = time.Since(j.began).Seconds()
	if opts.Output.IsTable() {
		return nil
	}
	if opts.Output.Format == output.Name {
		return opts.Output.Object(f.Streams, j.kind(), opts.Name, nil)
	}
	return opts.Output.Value(f.Streams, j.result)
}

// job is one image on its way.
type job struct {
	factory   *factory.Factory
	client    *client.Client
	options   *Options
	namespace string
	source    *source
	sender    *sender
	began     time.Time
	result    Result
	// handed is true when the cluster has all of the content and goes on alone.
	handed bool
}

// Result is what -o json prints.
type Result struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Source    string `json:"source"`
	// Format of the image: raw, qcow2, and so on.
	Format string `json:"format,omitempty"`
	// VirtualSize is the disk's size as the guest will see it, in bytes.
	VirtualSize int64 `json:"virtualSize,omitempty"`
	// SentAs is the format of what was sent where that is not Format: raw images without their zeros are qcow2 on the way.
	SentAs string `json:"sentAs,omitempty"`
	// Length is the size of what was to be sent, Sent what was sent this time.
	Length int64 `json:"length,omitempty"`
	Sent   int64 `json:"sent"`
	// Resumed is where an earlier upload was taken up.
	Resumed int64 `json:"resumedAt,omitempty"`
	// Digest of what was to be sent: sha256:HEX.
	Digest       string  `json:"digest,omitempty"`
	Phase        string  `json:"phase,omitempty"`
	AlreadyThere bool    `json:"alreadyThere"`
	Seconds      float64 `json:"seconds"`
}

func (j *job) run(ctx context.Context) error {
	state, err := volume.Load(ctx, j.client, j.namespace, j.options.Name)
	if err != nil {
		return err
	}
	if j.source.remote != nil {
		return j.fetch(ctx, state)
	}
	done, err := j.prepare(ctx, state)
	if err != nil || done {
		return err
	}
	if err := j.ready(ctx); err != nil {
		return err
	}
	if err := j.send(ctx); err != nil {
		return err
	}
	j.handed = true
	if j.options.DataSource {
		if err := j.dataSource(ctx); err != nil {
			return err
		}
	}
	if !j.options.Wait {
		j.tell("Uploading data completed successfully, the cluster goes on processing it: see \"virtctl get dv %s -n %s\"\n", j.options.Name, j.namespace)
		return nil
	}
	j.tell("Uploading data completed successfully, waiting for processing to complete, you can hit ctrl-c without interrupting the progress\n")
	if err := j.processed(ctx); err != nil {
		return err
	}
	j.tell("Processing completed successfully\nUploading %s completed successfully\n", j.source.name)
	return nil
}

// tell prints a line of the command's own output, which scripts read; with -o json there is none.
func (j *job) tell(format string, args ...any) {
	if j.options.Output.IsTable() {
		j.factory.Streams.Print(strings.ReplaceAll(format, `"virtctl `, `"`+j.factory.Program+" "), args...)
	}
}

func (j *job) kind() client.Kind {
	if j.options.claim() {
		return client.Core("PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim")
	}
	return client.DataVolume()
}

// interrupted says what is left and how to go on: the context has ended, so a fresh one asks.
func (j *job) interrupted(ctx context.Context) error {
	say := j.factory.Streams.Say
	switch {
	case j.handed:
		say("interrupted: the cluster has the whole image and goes on processing it: see \"%s get dv %s -n %s\"\n", j.factory.Program, j.options.Name, j.namespace)
	case j.sender == nil || j.sender.content == nil:
		say("interrupted before any data was sent; the same command goes on\n")
	default:
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		safe, err := j.sender.ask(asking)
		switch {
		case err != nil || !safe.resumable:
			say("interrupted: %s; the same command goes on where the server stopped\n", j.sender.sofar())
		default:
			say("interrupted: %s of %s are safe in the cluster; the same command goes on from there\n",
				volume.Bytes(safe.offset), volume.Bytes(j.sender.content.length))
		}
	}
	return problem.Silent(problem.Interrupted)
}

// left adds to an error what is left in the cluster and what can be done.
func (j *job) left(err error) error {
	var told *leftError
	if err == nil || errors.As(err, &told) || errors.Is(err, context.Canceled) {
		return err
	}
	return &leftError{fmt.Errorf("%w; %s %s/%s is left as it is: run the same command to go on, or remove it with \"virtctl delete %s %s -n %s\"",
		err, j.kind().Kind, j.namespace, j.options.Name, j.options.Kind, j.options.Name, j.namespace)}
}

// leftError is an error that says what is left.
type leftError struct{ err error }

func (e *leftError) Error() string { return e.err.Error() }
func (e *leftError) Unwrap() error { return e.err }
