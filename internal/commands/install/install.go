// Package install is the command that gives a cluster the platform, or a newer version of it.
package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/install"
	"virtctl/internal/install/embedded"
	"virtctl/internal/version"
)

// Options are what the command line says.
type Options struct {
	install.Options
	Output     output.Flag
	Timeout    time.Duration
	Emulate    string
	PullPolicy string
	Embedded   bool
	Cluster    embedded.Cluster
	ImagesDir  string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Give the cluster virtual machines, or upgrade the platform",
		Long: `Install the platform into the cluster of the current kubeconfig context, or bring it to this program's version.

Running it again changes nothing. Running a newer {{ProgramName}} upgrades in place: virtual machines keep running.
With --embedded, a Kubernetes of its own is started on this machine first.`,
		Example: `  # Install into the current cluster and wait until it is ready
  {{ProgramName}} install

  # Look at what would be applied
  {{ProgramName}} install --dry-run

  # No cluster yet: start one on this machine and install into it
  {{ProgramName}} install --embedded`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Registry, "registry", version.Registry(), "Registry and path of the platform's images")
	flags.StringVar(&opts.Tag, "tag", version.Tag(), "Tag of the platform's images")
	flags.StringVar(&opts.PullPolicy, "image-pull-policy", string(corev1.PullIfNotPresent), "When nodes pull the images: Always, IfNotPresent or Never")
	flags.StringVar(&opts.Emulate, "emulation", string(install.EmulationAuto), "Run VMs without hardware virtualization: on, off, or auto to let the nodes decide")
	flags.Int32Var(&opts.Replicas, "operator-replicas", 0, "Replicas of the operator; 0 takes two where there are two nodes")
	flags.BoolVar(&opts.Wait, "wait", true, "Wait until every component is ready")
	flags.DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "How long to wait")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "Print the objects and change nothing")
	flags.BoolVar(&opts.Embedded, "embedded", false, "Start Kubernetes on this machine and install into that")
	bindCluster(cmd, &opts.Cluster)
	flags.IntVar(&opts.Cluster.Nodes, "nodes", 1, "With --embedded: how many nodes the machine shall have")
	flags.StringVar(&opts.ImagesDir, "images-dir", "", "With --embedded: directory of image archives to load; default out/images beside the program's directory")
	opts.Output.Bind(cmd, "", output.JSON, output.YAML)
	return cmd
}

func bindCluster(cmd *cobra.Command, c *embedded.Cluster) {
	cmd.Flags().StringVar(&c.StateDir, "state-dir", "/var/lib/virt-kube", "With --embedded: where the cluster keeps its state")
}

// Run installs.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	if err := opts.complete(f); err != nil {
		return err
	}
	if opts.DryRun {
		return print(f, opts)
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	config, err := connect(ctx, f, opts)
	if err != nil {
		return err
	}
	installer, err := install.New(config, opts.Options)
	if err != nil {
		return err
	}
	installer.Report = reporter(f.Streams, opts)
	outcome, err := installer.Install(ctx)
	if err != nil {
		return err
	}
	if opts.Output.Format != "" {
		return opts.Output.Value(f.Streams, outcome)
	}
	f.Streams.Print("%s\n", verdict(outcome, opts.Wait))
	return nil
}

func (o *Options) complete(f *factory.Factory) error {
	if err := o.Output.Check(); err != nil {
		return err
	}
	switch o.Emulation = install.Emulation(o.Emulate); o.Emulation {
	case install.EmulationAuto, install.EmulationOn, install.EmulationOff:
	default:
		return problem.Usagef("--emulation %q is not known: use auto, on or off", o.Emulate)
	}
	switch o.Options.PullPolicy = corev1.PullPolicy(o.PullPolicy); o.Options.PullPolicy {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return problem.Usagef("--image-pull-policy %q is not known: use Always, IfNotPresent or Never", o.PullPolicy)
	}
	if o.Timeout <= 0 {
		return problem.Usagef("--timeout must be positive")
	}
	if o.Cluster.Nodes < 1 || o.Cluster.Nodes > 16 {
		return problem.Usagef("--nodes must be between 1 and 16")
	}
	namespace, err := PlatformNamespace(f)
	o.Namespace = namespace
	return err
}

// PlatformNamespace is where the platform lives: kubevirt, unless --namespace was given.
func PlatformNamespace(f *factory.Factory) (string, error) {
	namespace, explicit, err := f.Namespace()
	if err != nil || !explicit {
		return "kubevirt", nil //nolint:nilerr // without a kubeconfig (--embedded) there is no namespace to read from it
	}
	return namespace, nil
}

func connect(ctx context.Context, f *factory.Factory, opts *Options) (*rest.Config, error) {
	if !opts.Embedded {
		return f.RESTConfig()
	}
	opts.Cluster.Log = f.Streams.Err
	if err := opts.Cluster.Up(ctx); err != nil {
		return nil, err
	}
	archives, err := opts.archives()
	if err != nil {
		return nil, err
	}
	if err := opts.Cluster.Load(ctx, archives); err != nil {
		return nil, err
	}
	if err := opts.Cluster.Publish(); err != nil {
		return nil, err
	}
	return clientcmd.BuildConfigFromFlags("", opts.Cluster.Kubeconfig())
}

func (o *Options) archives() ([]string, error) {
	dir := o.ImagesDir
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		dir = filepath.Join(filepath.Dir(filepath.Dir(self)), "out", "images")
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return nil, fmt.Errorf("look for image archives: %w", err)
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("no image archive in %s: build them with `make images`, or name their directory with --images-dir", dir)
	}
	return archives, nil
}

func print(f *factory.Factory, opts *Options) error {
	// The objects do not depend on the cluster: nothing is asked.
	installer, err := install.New(&rest.Config{Host: "https://unused.invalid"}, opts.Options)
	if err != nil {
		return err
	}
	objects, err := installer.Objects()
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if opts.Output.Format == output.JSON {
			if err := opts.Output.Value(f.Streams, obj.Object); err != nil {
				return err
			}
			continue
		}
		body, err := yaml.Marshal(obj.Object)
		if err != nil {
			return fmt.Errorf("print %s: %w", obj.GetName(), err)
		}
		f.Streams.Print("---\n%s", body)
	}
	return nil
}

// reporter prints one line per step: progress is talk, so it goes to stderr.
func reporter(streams *terminal.Streams, opts *Options) func(install.Step) {
	return func(s install.Step) {
		switch {
		case opts.Output.Format != "":
		case s.Text != "":
			streams.Say("waiting: %s\n", s.Text)
		default:
			streams.Say("%s %s\n", s.Object, s.Result)
		}
	}
}

func verdict(o *install.Outcome, waited bool) string {
	state := "installed"
	switch {
	case o.Changed == 0:
		state = "unchanged"
	case o.Previous != "":
		state = "upgraded from " + o.Previous
	}
	ready := "ready"
	if !waited {
		ready = "not waited for"
	}
	return fmt.Sprintf("virtctl %s in namespace %s: %s, %s (%.1fs)", o.Version, o.Namespace, state, ready, o.Seconds)
}
