package memorydump

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/volume"
)

// overhead is what a dump takes beside the guest's memory (contract).
const overhead = 100 << 20

// getOptions are what the command line says.
type getOptions struct {
	Claim, StorageClass, AccessMode string
	Create, Wait                    bool
	Timeout                         time.Duration
}

func newGet(f *factory.Factory) *cobra.Command {
	opts := &getOptions{}
	cmd := &cobra.Command{
		Use:   "get VM",
		Short: "Write a machine's memory to a claim now",
		Long: `Write the memory of a running machine to a file on a claim.

A machine that was dumped before keeps its claim, which need not be named again.`,
		Example: `  # To a claim made for it, and wait until it is written
  {{ProgramName}} memory-dump get web --claim-name web-memory --create-claim --wait

  # Once more, to the same claim
  {{ProgramName}} memory-dump get web --wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error {
			return opts.run(cmd.Context(), f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Claim, "claim-name", "", "Claim to write to; may be left out when the machine has one from an earlier dump")
	flags.BoolVar(&opts.Create, "create-claim", false, "Make the claim, as large as the machine's memory needs")
	flags.StringVar(&opts.StorageClass, "storage-class", "", "With --create-claim: storage class; default the cluster's")
	flags.StringVar(&opts.AccessMode, "access-mode", "", "With --create-claim: ReadWriteOnce (default) or ReadWriteMany")
	flags.BoolVar(&opts.Wait, "wait", false, "Wait until it is written, and say why if it is not")
	flags.DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "With --wait: how long to wait at most; 0 waits for ever")
	_ = cmd.RegisterFlagCompletionFunc("claim-name", target.CompleteClaims(f))
	_ = cmd.RegisterFlagCompletionFunc("access-mode", cobra.FixedCompletions([]string{"ReadWriteOnce", "ReadWriteMany"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check reports a wrong combination of flags.
func (o *getOptions) check() error {
	switch {
	case o.Create && o.Claim == "":
		return problem.Usagef("missing claim name: --create-claim needs --claim-name")
	case !o.Create && (o.StorageClass != "" || o.AccessMode != ""):
		return problem.Usagef("--storage-class and --access-mode are for a claim that --create-claim makes")
	case o.AccessMode != "" && o.AccessMode != string(corev1.ReadWriteOnce) && o.AccessMode != string(corev1.ReadWriteMany):
		return problem.Usagef("--access-mode %q: use ReadWriteOnce or ReadWriteMany", o.AccessMode)
	case o.Timeout < 0:
		return problem.Usagef("--timeout must not be negative")
	}
	return nil
}

func (o *getOptions) run(ctx context.Context, f *factory.Factory, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VM, namespace, name)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	t = client.VM(t.Namespace, t.Name)
	if o.Create {
		if err := o.createClaim(ctx, f, c, t); err != nil {
			return fmt.Errorf("cannot dump the memory of VM %s: %w", t.Name, err)
		}
	}
	err = c.Put(ctx, t, "memorydump", &kubevirtv1.VirtualMachineMemoryDumpRequest{ClaimName: o.Claim})
	if err != nil {
		return fmt.Errorf("cannot dump the memory of VM %s: %w", t.Name, target.Explain(ctx, c, t, err))
	}
	if !o.Wait {
		f.Streams.Print("Successfully submitted memory dump request of VM %s\n", t.Name)
		return nil
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	return o.await(ctx, f, c, t)
}

// await waits for the end of the dump.
func (o *getOptions) await(ctx context.Context, f *factory.Factory, c *client.Client, t client.Target) error {
	return follow(ctx, c, t, func(request *kubevirtv1.VirtualMachineMemoryDumpRequest) (bool, error) {
		switch {
		case request == nil:
			return false, problem.New(problem.Hopeless, "somebody took the memory dump of VM %s back", t.Name)
		case request.Phase == kubevirtv1.MemoryDumpFailed:
			return false, problem.New(problem.Hopeless, "the memory of VM %s was not dumped: %s", t.Name, request.Message)
		case request.Phase != kubevirtv1.MemoryDumpCompleted:
			return false, nil
		}
		file := ""
		if request.FileName != nil {
			file = *request.FileName
		}
		f.Streams.Print("The memory of VM %s is in %s on the claim %s\n", t.Name, file, request.ClaimName)
		return true, nil
	})
}

// createClaim makes a claim that the dump fits on.
func (o *getOptions) createClaim(ctx context.Context, f *factory.Factory, c *client.Client, t client.Target) error {
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return target.Explain(ctx, c, t, err)
	}
	size := volume.RoundUp(volume.WithOverhead(guestBytes(vmi)+overhead, volume.Overhead(ctx, c, o.StorageClass)))
	mode := corev1.ReadWriteOnce
	if o.AccessMode != "" {
		mode = corev1.PersistentVolumeAccessMode(o.AccessMode)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: o.Claim, Namespace: t.Namespace}}
	metav1.SetMetaDataLabel(&claim.ObjectMeta, names.LabelApplyStorageProfile, "true")
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{mode}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *size}
	if o.StorageClass != "" {
		claim.Spec.StorageClassName = &o.StorageClass
	}
	_, err = c.Claims(t.Namespace).Create(ctx, claim, false)
	if apierrors.IsAlreadyExists(err) {
		return problem.New(problem.Conflict, "PVC %s/%s already exists: leave --create-claim out to write to it, or choose another --claim-name", t.Namespace, o.Claim)
	}
	if err != nil {
		return fmt.Errorf("make the claim %s: %w", o.Claim, err)
	}
	f.Streams.Print("PVC %s/%s created\n", t.Namespace, o.Claim)
	return nil
}

// guestBytes is how much memory the guest has now, as far as the object says.
func guestBytes(vmi *kubevirtv1.VirtualMachineInstance) int64 {
	if s := vmi.Status.Memory; s != nil && s.GuestCurrent != nil {
		return s.GuestCurrent.Value()
	}
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil {
		return m.Guest.Value()
	}
	return vmi.Spec.Domain.Resources.Requests.Memory().Value()
}
