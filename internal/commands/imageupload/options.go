package imageupload

import (
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
)

// Options are what the command line says.
type Options struct {
	// Kind is dv or pvc, Name the volume's name.
	Kind, Name string
	Path       string
	Archive    string
	Output     output.Flag

	Size         string
	StorageClass string
	AccessMode   string
	VolumeMode   string
	NoCreate     bool
	ForceBind    bool
	DataSource   bool
	Labels       DefaultLabels

	ProxyURL string
	Insecure bool
	Direct   bool
	WaitSecs uint
	Retry    uint
	Wait     bool

	deprecated struct {
		claimName, claimSize string
		block                bool
	}
	size *resource.Quantity
}

// DefaultLabels name what machines from this disk get when they ask for nothing.
type DefaultLabels struct{ Instancetype, InstancetypeKind, Preference, PreferenceKind string }

func (o *Options) claim() bool { return o.Kind == "pvc" }

func (o *Options) bind(cmd *cobra.Command) {
	o.Output.Bind(cmd, "", output.JSON, output.YAML, output.Name)
	flags := cmd.Flags()
	flags.StringVar(&o.Path, "image-path", "", "The disk image: a file, - for a pipe, an http(s):// or a docker:// address")
	flags.StringVar(&o.Archive, "archive-path", "", "A tar archive whose files go into the volume")
	flags.StringVar(&o.Size, "size", "", "Size of the disk, for example 10Gi; default what the image needs")
	flags.StringVar(&o.StorageClass, "storage-class", "", "Storage class; default the cluster's")
	flags.StringVar(&o.AccessMode, "access-mode", "", "ReadWriteOnce or ReadWriteMany; default what suits the storage class best")
	flags.StringVar(&o.VolumeMode, "volume-mode", "", "block or filesystem; default what suits the storage class best")
	flags.BoolVar(&o.NoCreate, "no-create", false, "Fill a volume that exists; fail if it does not")
	flags.StringVar(&o.ProxyURL, "uploadproxy-url", "", "Address of the upload proxy; default the cluster's if it can be reached, else through the API server")
	flags.BoolVar(&o.Insecure, "insecure", false, "Do not check the upload proxy's certificate")
	flags.BoolVar(&o.Direct, "direct", true, "Send straight to the upload server's pod if it can be reached from here; false goes through the API server")
	flags.UintVar(&o.WaitSecs, "wait-secs", 300, "Seconds to wait for the upload server")
	flags.UintVar(&o.Retry, "retry", 5, "How often to try again without having got further")
	flags.BoolVar(&o.Wait, "wait", true, "Wait until the disk is ready to be used")
	flags.BoolVar(&o.ForceBind, "force-bind", false, "Kept for scripts: uploads never wait for a first consumer")
	flags.BoolVar(&o.DataSource, "datasource", false, "Make a DataSource of the same name that points to the disk")
	flags.StringVar(&o.Labels.Instancetype, "default-instancetype", "", "Instance type of machines from this disk that name none")
	flags.StringVar(&o.Labels.InstancetypeKind, "default-instancetype-kind", "", "Kind of that instance type")
	flags.StringVar(&o.Labels.Preference, "default-preference", "", "Preference of machines from this disk that name none")
	flags.StringVar(&o.Labels.PreferenceKind, "default-preference-kind", "", "Kind of that preference")
	flags.StringVar(&o.deprecated.claimName, "pvc-name", "", "The claim's name")
	flags.StringVar(&o.deprecated.claimSize, "pvc-size", "", "The claim's size")
	flags.BoolVar(&o.deprecated.block, "block-volume", false, "Make a block volume")
	_ = flags.MarkDeprecated("pvc-name", "name the volume after dv or pvc instead")
	_ = flags.MarkDeprecated("pvc-size", "use --size instead")
	_ = flags.MarkDeprecated("block-volume", "use --volume-mode block instead")
	_ = cmd.RegisterFlagCompletionFunc("volume-mode", cobra.FixedCompletions([]string{"block", "filesystem"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("access-mode", cobra.FixedCompletions([]string{"ReadWriteOnce", "ReadWriteMany"}, cobra.ShellCompDirectiveNoFileComp))
}

// check reads the command line; what upstream lets pass and then ignores is refused here.
func (o *Options) check(args []string) error {
	if err := o.Output.Check(); err != nil {
		return err
	}
	if err := o.target(args); err != nil {
		return err
	}
	if err := o.modes(); err != nil {
		return err
	}
	switch {
	case o.Path == "" && o.Archive == "":
		return problem.Usagef("either image-path or archive-path must be provided")
	case o.Path != "" && o.Archive != "":
		return problem.Usagef("cannot handle both image-path and archive-path, provide only one")
	case o.Archive != "" && o.VolumeMode == "block":
		return problem.Usagef("in archive upload the volume mode should always be filesystem")
	case o.Labels.InstancetypeKind != "" && o.Labels.Instancetype == "":
		return problem.Usagef("--default-instancetype must be provided with --default-instancetype-kind")
	case o.Labels.PreferenceKind != "" && o.Labels.Preference == "":
		return problem.Usagef("--default-preference must be provided with --default-preference-kind")
	case (o.Labels.Instancetype != "" || o.Labels.Preference != "") && o.NoCreate:
		return problem.Usagef("--default-instancetype and --default-preference cannot be used with --no-create")
	case o.NoCreate && o.Size != "":
		return problem.Usagef("--size cannot be used with --no-create: the volume has its size")
	}
	return o.sizes()
}

func (o *Options) target(args []string) error {
	if o.deprecated.claimName != "" {
		if len(args) != 0 {
			return problem.Usagef("cannot use --pvc-name and args")
		}
		args = []string{"pvc", o.deprecated.claimName}
	}
	if len(args) == 1 && strings.Contains(args[0], "/") {
		args = strings.SplitN(args[0], "/", 2)
	}
	if len(args) != 2 {
		return problem.Usagef("expecting two args: dv NAME or pvc NAME")
	}
	switch strings.ToLower(args[0]) {
	case "dv", "datavolume", "datavolumes":
		o.Kind = "dv"
	case "pvc", "persistentvolumeclaim", "persistentvolumeclaims":
		o.Kind = "pvc"
	default:
		return problem.Usagef("invalid resource type %s: write dv or pvc", args[0])
	}
	o.Name = args[1]
	if wrong := validation.IsDNS1123Subdomain(o.Name); len(wrong) > 0 {
		return problem.Usagef("%q is no name for a volume: %s", o.Name, wrong[0])
	}
	return nil
}

func (o *Options) modes() error {
	if o.deprecated.block {
		if o.VolumeMode != "" && !strings.EqualFold(o.VolumeMode, "block") {
			return problem.Usagef("incompatible --volume-mode '%s' and --block-volume", o.VolumeMode)
		}
		o.VolumeMode = "block"
	}
	o.VolumeMode = strings.ToLower(o.VolumeMode)
	if o.VolumeMode != "" && o.VolumeMode != "block" && o.VolumeMode != "filesystem" {
		return problem.Usagef("invalid volume mode '%s': valid values are 'block' and 'filesystem'", o.VolumeMode)
	}
	switch corev1.PersistentVolumeAccessMode(o.AccessMode) {
	case "", corev1.ReadWriteOnce, corev1.ReadWriteMany, corev1.ReadWriteOncePod:
	case corev1.ReadOnlyMany:
		return problem.Usagef("cannot upload to a readonly volume, use either ReadWriteOnce or ReadWriteMany if supported")
	default:
		return problem.Usagef("--access-mode %q is not one of ReadWriteOnce, ReadWriteMany, ReadWriteOncePod", o.AccessMode)
	}
	return nil
}

func (o *Options) sizes() error {
	if o.deprecated.claimSize != "" {
		if o.Size != "" && o.Size != o.deprecated.claimSize {
			return problem.Usagef("--pvc-size and --size can not be specified at the same time")
		}
		o.Size = o.deprecated.claimSize
	}
	if o.Size == "" {
		return nil
	}
	size, err := resource.ParseQuantity(o.Size)
	if err != nil {
		return problem.Usagef("validation failed for size=%s: %w; write for example 10Gi", o.Size, err)
	}
	if size.Sign() <= 0 {
		return problem.Usagef("validation failed for size=%s: it must be greater than 0", o.Size)
	}
	o.size = &size
	return nil
}
