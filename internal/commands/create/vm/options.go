package vm

import (
	"time"

	"github.com/spf13/cobra"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/target"
)

// Flag names that are needed in more than one place.
const (
	flagMemory                = "memory"
	flagInstancetype          = "instancetype"
	flagInferInstancetype     = "infer-instancetype"
	flagInferInstancetypeFrom = "infer-instancetype-from"
	flagPreference            = "preference"
	flagInferPreference       = "infer-preference"
	flagInferPreferenceFrom   = "infer-preference-from"
	flagUserData              = "cloud-init-user-data"
	flagUserDataFile          = "cloud-init-user-data-file"
	flagNetworkData           = "cloud-init-network-data"
	flagNetworkDataFile       = "cloud-init-network-data-file"
)

// Options are what the command line says.
type Options struct {
	Name, RunStrategy string
	GracePeriod       int64
	Size              Size
	Volumes           Volumes
	CloudInit         CloudInit
	Hardware          Hardware
	Labels            map[string]string
	Annotations       map[string]string
	NodeSelector      map[string]string
	Apply             Apply
	Output            output.Flag

	// changed tells whether a flag was given by the user.
	changed func(flag string) bool
}

// Size says how big the machine is.
type Size struct {
	Memory                string
	CPU                   string
	Instancetype          string
	InferInstancetype     bool
	InferInstancetypeFrom string
	Preference            string
	InferPreference       bool
	InferPreferenceFrom   string
}

// Volumes are the disks, as given.
type Volumes struct {
	ContainerDisks, Claims, Imports, Sysprep, DataSources, ClonedClaims, Blanks []string

	StorageClass string
	AccessModes  []string
}

// CloudInit is what the guest is told when it boots first.
type CloudInit struct {
	Kind              string
	User              string
	PasswordFile      string
	Keys              []string
	AgentManagesKeys  bool
	Credentials       []string
	UserData          string
	UserDataFile      string
	UserDataSecret    string
	NetworkData       string
	NetworkDataFile   string
	NetworkDataSecret string
}

// Hardware is what the machine consists of besides processors, memory and disks.
type Hardware struct {
	Networks    []string
	DiskBus     string
	Firmware    string
	TPM         string
	MachineType string
	CPUModel    string
}

// Apply says what to do with the machine beyond printing it.
type Apply struct {
	Apply, Start, Wait, DryRun bool
	Timeout                    time.Duration
}

func (o *Options) bind(f *factory.Factory, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "Name of the virtual machine; default vm- and five random characters")
	flags.StringVar(&o.RunStrategy, "run-strategy", string(kubevirtv1.RunStrategyAlways), "When the machine runs: Always, Manual, Halted, Once or RerunOnFailure")
	flags.Int64Var(&o.GracePeriod, "termination-grace-period", 180, "Seconds the guest gets to shut down")
	flags.StringToStringVar(&o.Labels, "label", nil, "Labels of the machine and its runs: KEY=VALUE,...")
	flags.StringToStringVar(&o.Annotations, "annotation", nil, "Annotations of the machine: KEY=VALUE,...")
	flags.StringToStringVar(&o.NodeSelector, "node-selector", nil, "Labels a node must have to run the machine: KEY=VALUE,...")
	o.bindSize(cmd)
	o.bindVolumes(f, cmd)
	o.bindCloudInit(cmd)
	o.bindHardware(cmd)
	o.bindApply(cmd)
	fixed(cmd, "run-strategy", runStrategies()...)
}

func (o *Options) bindSize(cmd *cobra.Command) {
	flags, s := cmd.Flags(), &o.Size
	flags.StringVar(&s.Memory, flagMemory, "512Mi", "Memory of the guest")
	flags.StringVar(&s.CPU, "cpu", "", "Virtual processors: a number of sockets, or sockets:N,cores:N,threads:N")
	flags.StringVar(&s.Instancetype, flagInstancetype, "", "Instance type: NAME, virtualmachineinstancetype/NAME or virtualmachineclusterinstancetype/NAME")
	flags.BoolVar(&s.InferInstancetype, flagInferInstancetype, true, "Take the instance type from the first boot volume's labels")
	flags.StringVar(&s.InferInstancetypeFrom, flagInferInstancetypeFrom, "", "Take the instance type from this volume's labels")
	flags.StringVar(&s.Preference, flagPreference, "", "Preference: NAME, virtualmachinepreference/NAME or virtualmachineclusterpreference/NAME")
	flags.BoolVar(&s.InferPreference, flagInferPreference, true, "Take the preference from the first boot volume's labels")
	flags.StringVar(&s.InferPreferenceFrom, flagInferPreferenceFrom, "", "Take the preference from this volume's labels")
	cmd.MarkFlagsMutuallyExclusive(flagMemory, flagInstancetype, flagInferInstancetype, flagInferInstancetypeFrom)
	cmd.MarkFlagsMutuallyExclusive(flagPreference, flagInferPreference, flagInferPreferenceFrom)
	cmd.MarkFlagsMutuallyExclusive("cpu", flagInstancetype)
}

func (o *Options) bindVolumes(f *factory.Factory, cmd *cobra.Command) {
	flags, v := cmd.Flags(), &o.Volumes
	flags.StringArrayVar(&v.ContainerDisks, "volume-containerdisk", nil, "Boot from a container image's disk: src:IMAGE[,name:NAME][,bootorder:N]")
	flags.StringArrayVar(&v.Claims, "volume-pvc", nil, "Use an existing claim of the same namespace: src:NAME[,name:NAME][,bootorder:N]")
	flags.StringArrayVar(&v.Imports, "volume-import", nil,
		"Make a new volume with the machine: type:blank|gcs|http|imageio|pvc|registry|s3|vddk|snapshot|ds, then what that type needs, size:SIZE[,name:NAME][,bootorder:N]")
	flags.StringArrayVar(&v.Sysprep, "volume-sysprep", nil, "Windows answer files: src:NAME[,type:configmap|secret]")
	flags.StringVar(&v.StorageClass, "storage-class", "", "Storage class of the new volumes; default the cluster's")
	flags.StringSliceVar(&v.AccessModes, "access-mode", nil, "Access modes of the new volumes: ReadWriteOnce, ReadWriteMany; default what suits the storage")
	flags.StringArrayVar(&v.DataSources, "volume-datasource", nil, "Clone a DataSource: src:[NAMESPACE/]NAME[,name:NAME][,size:SIZE][,bootorder:N]")
	flags.StringArrayVar(&v.ClonedClaims, "volume-clone-pvc", nil, "Clone a claim: src:NAMESPACE/NAME[,name:NAME][,size:SIZE][,bootorder:N]")
	flags.StringArrayVar(&v.Blanks, "volume-blank", nil, "Add an empty volume: size:SIZE[,name:NAME][,bootorder:N]")
	for old, kind := range map[string]string{"volume-datasource": "ds", "volume-clone-pvc": "pvc", "volume-blank": "blank"} {
		_ = flags.MarkDeprecated(old, "use --volume-import with type:"+kind+" instead")
	}
	_ = cmd.RegisterFlagCompletionFunc("volume-pvc", target.CompleteClaims(f))
	fixed(cmd, "access-mode", "ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany")
}

func (o *Options) bindCloudInit(cmd *cobra.Command) {
	flags, c := cmd.Flags(), &o.CloudInit
	flags.StringVar(&c.Kind, "cloud-init", nocloud, "Kind of the cloud-init volume: nocloud, configdrive or none")
	flags.StringVar(&c.User, "user", "", "User that cloud-init makes")
	flags.StringVar(&c.PasswordFile, "password-file", "", "File with the user's password; it is stored in the machine in clear text")
	flags.StringSliceVar(&c.Keys, "ssh-key", nil, "SSH public key the user may log in with; may be repeated")
	flags.BoolVar(&c.AgentManagesKeys, "ga-manage-ssh", false, "Let the guest agent manage SSH keys: sets the SELinux boolean it needs in the guest")
	flags.StringArrayVar(&c.Credentials, "access-cred", nil, "Credentials from a Secret: src:SECRET[,type:ssh|password][,method:ga|nocloud|configdrive][,user:USER]")
	flags.StringVar(&c.UserData, flagUserData, "", "Base64 encoded user data")
	flags.StringVar(&c.UserDataFile, flagUserDataFile, "", "File with the user data; - is standard input")
	flags.StringVar(&c.UserDataSecret, "cloud-init-user-data-secret", "", "Secret of the namespace with the user data under the key userdata")
	flags.StringVar(&c.NetworkData, flagNetworkData, "", "Base64 encoded network data")
	flags.StringVar(&c.NetworkDataFile, flagNetworkDataFile, "", "File with the network data; - is standard input")
	flags.StringVar(&c.NetworkDataSecret, "cloud-init-network-data-secret", "", "Secret of the namespace with the network data under the key networkdata")
	for _, own := range []string{"user", "password-file", "ssh-key", "ga-manage-ssh"} {
		cmd.MarkFlagsMutuallyExclusive(flagUserData, own)
		cmd.MarkFlagsMutuallyExclusive(flagUserDataFile, own)
		cmd.MarkFlagsMutuallyExclusive("cloud-init-user-data-secret", own)
	}
	cmd.MarkFlagsMutuallyExclusive(flagUserData, flagUserDataFile, "cloud-init-user-data-secret")
	cmd.MarkFlagsMutuallyExclusive(flagNetworkData, flagNetworkDataFile, "cloud-init-network-data-secret")
	fixed(cmd, "cloud-init", nocloud, configdrive, none)
}

func (o *Options) bindHardware(cmd *cobra.Command) {
	flags, h := cmd.Flags(), &o.Hardware
	flags.StringArrayVar(&h.Networks, "network", nil,
		"Network card: pod, none, the NAME of a NetworkAttachmentDefinition, or src:pod|NAME[,name:N][,binding:masquerade|bridge|sriov][,model:virtio|e1000e|...][,mac:MAC][,ports:22;80]; may be repeated")
	flags.StringVar(&h.DiskBus, "disk-bus", "", "Bus of the disks: virtio, sata or scsi")
	flags.StringVar(&h.Firmware, "firmware", "", "Firmware: bios, uefi or uefi-secure")
	flags.StringVar(&h.TPM, "tpm", "", "Add a TPM: ephemeral or persistent")
	flags.Lookup("tpm").NoOptDefVal = "ephemeral"
	flags.StringVar(&h.MachineType, "machine-type", "", "Machine type, for example q35; default the cluster's")
	flags.StringVar(&h.CPUModel, "cpu-model", "", "CPU model: host-model, host-passthrough or a name; default the cluster's")
	fixed(cmd, "disk-bus", "virtio", "sata", "scsi")
	fixed(cmd, "firmware", "bios", "uefi", "uefi-secure")
	fixed(cmd, "tpm", "ephemeral", "persistent")
	fixed(cmd, "cpu-model", "host-model", "host-passthrough")
}

func (o *Options) bindApply(cmd *cobra.Command) {
	flags, a := cmd.Flags(), &o.Apply
	flags.BoolVar(&a.Apply, "apply", false, "Create the machine in the cluster, or change it, instead of printing its manifest")
	flags.BoolVar(&a.Start, "start", false, "Apply, then start the machine unless its run strategy starts it already")
	flags.BoolVar(&a.Wait, "wait", false, "Apply, then wait until the guest runs; needs --start or a run strategy that starts the machine")
	flags.BoolVar(&a.DryRun, "dry-run", false, "With --apply: let the server check the machine without storing it")
	flags.DurationVar(&a.Timeout, "timeout", 5*time.Minute, "With --wait: how long to wait at most; 0 waits for ever")
	o.Output.Bind(cmd, "", output.YAML, output.JSON, output.Name)
}

func fixed(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
