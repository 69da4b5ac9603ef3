// Package expose is the command that makes a Service for a machine.
package expose

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Name, PortName, TargetPort, Protocol, Type string
	ClusterIP, ExternalIP, IPFamily, IPPolicy  string
	Ports                                      []int32
	DryRun                                     bool
	Output                                     output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "expose (vm|vmi|vmirs) NAME --name SERVICE",
		Short: "Make a machine reachable by a Service",
		Long: `Make a machine reachable by a Service.

The ports are those given with --port, else those the machine's interface on the pod network lists. The Service belongs to what was
named: that of a vmi goes away with it when the machine restarts, that of a vm stays.`,
		Example: `  # SSH of web within the cluster
  {{ProgramName}} expose vm web --name web-ssh --port 22

  # A web server on a port of every node
  {{ProgramName}} expose vm web --name web --port 80 --target-port 8080 --type NodePort`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return []cobra.Completion{"vm", "vmi", "vmirs"}, cobra.ShellCompDirectiveNoFileComp
			case 1:
				kind, _ := target.KindOf(args[0])
				return target.Names(cmd.Context(), f, kind, typed, nil), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0], args[1])
		},
	}
	opts.bind(cmd)
	return cmd
}

func (o *Options) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "Name of the Service")
	flags.Int32SliceVar(&o.Ports, "port", nil, "Port of the Service; may be repeated")
	flags.StringVar(&o.TargetPort, "target-port", "", "Port in the machine, if it is another; only with one --port")
	flags.StringVar(&o.Protocol, "protocol", "TCP", "Protocol: TCP or UDP")
	flags.StringVar(&o.Type, "type", "ClusterIP", "Type of the Service: ClusterIP, NodePort or LoadBalancer")
	flags.StringVar(&o.PortName, "port-name", "", "Name of the port; only with one --port")
	flags.StringVar(&o.ClusterIP, "cluster-ip", "", "Address of the Service in the cluster; None makes it headless")
	flags.StringVar(&o.ExternalIP, "external-ip", "", "Further address at which the Service is reachable")
	flags.StringVar(&o.IPFamily, "ip-family", "", "Address families: IPv4, IPv6, IPv4,IPv6 or IPv6,IPv4")
	flags.StringVar(&o.IPPolicy, "ip-family-policy", "", "SingleStack, PreferDualStack or RequireDualStack")
	flags.BoolVar(&o.DryRun, "dry-run", false, "Let the server check the Service without storing it")
	o.Output.Bind(cmd, "", output.Name, output.JSON, output.YAML)
	_ = cmd.MarkFlagRequired("name")
	for flag, values := range map[string][]string{
		"protocol": {"TCP", "UDP"}, "type": {"ClusterIP", "NodePort", "LoadBalancer"},
		"ip-family": {"IPv4", "IPv6", "IPv4,IPv6", "IPv6,IPv4"}, "ip-family-policy": {"SingleStack", "PreferDualStack", "RequireDualStack"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// Run makes the Service.
func Run(ctx context.Context, f *factory.Factory, opts *Options, kind, name string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	service, err := opts.service()
	if err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	found, err := find(ctx, c, kind, namespace, name)
	if err != nil {
		return err
	}
	if len(service.Spec.Ports) == 0 {
		service.Spec.Ports = found.ports
	}
	if len(service.Spec.Ports) == 0 {
		return problem.Usagef("couldn't find port via --port flag or introspection: name a port with --port")
	}
	service.Namespace, service.Spec.Selector = namespace, found.selector
	service.OwnerReferences = []metav1.OwnerReference{found.owner}
	stored, err := c.Services(namespace).Create(ctx, service, opts.DryRun)
	if err != nil {
		return fmt.Errorf("cannot make Service %s: %w", opts.Name, err)
	}
	if !opts.Output.IsTable() {
		return opts.Output.Object(f.Streams, c.Services(namespace).Kind(), stored.Name, stored)
	}
	if opts.DryRun {
		f.Streams.Print("Service %s would be exposed for %s %s (dry run: nothing was changed)\n", opts.Name, kind, name)
		return nil
	}
	f.Streams.Print("Service %s successfully created for %s %s\n", opts.Name, kind, name)
	if stored.Spec.ClusterIP != "" && stored.Spec.ClusterIP != corev1.ClusterIPNone {
		f.Streams.Say("reachable in the cluster at %s.%s.svc and %s\n", stored.Name, namespace, stored.Spec.ClusterIP)
	}
	return nil
}

// service makes the Service as far as the flags say.
func (o *Options) service() (*corev1.Service, error) {
	service := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Name: o.Name},
		Spec: corev1.ServiceSpec{ClusterIP: o.ClusterIP},
	}
	kinds := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}
	if service.Spec.Type = corev1.ServiceType(o.Type); !slices.Contains(kinds, service.Spec.Type) {
		return nil, problem.Usagef("unknown --type %q: use ClusterIP, NodePort or LoadBalancer", o.Type)
	}
	protocol := corev1.Protocol(strings.ToUpper(o.Protocol))
	if protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP {
		return nil, problem.Usagef("unknown --protocol %q: use TCP or UDP", o.Protocol)
	}
	if o.ExternalIP != "" {
		service.Spec.ExternalIPs = []string{o.ExternalIP}
	}
	if err := o.families(service); err != nil {
		return nil, err
	}
	if len(o.Ports) > 1 && (o.TargetPort != "" || o.PortName != "") {
		return nil, problem.Usagef("--target-port and --port-name go with one --port")
	}
	for _, number := range o.Ports {
		if number < 1 || number > 65535 {
			return nil, problem.Usagef("--port %d is not a port between 1 and 65535", number)
		}
		port := corev1.ServicePort{Name: o.PortName, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(number)}
		if o.TargetPort != "" {
			port.TargetPort = intstr.Parse(o.TargetPort)
		}
		if len(o.Ports) > 1 {
			port.Name = "port-" + strconv.Itoa(int(number))
		}
		service.Spec.Ports = append(service.Spec.Ports, port)
	}
	return service, nil
}

func (o *Options) families(service *corev1.Service) error {
	if o.IPFamily != "" {
		for _, word := range strings.Split(o.IPFamily, ",") {
			family := map[string]corev1.IPFamily{"ipv4": corev1.IPv4Protocol, "ipv6": corev1.IPv6Protocol}[strings.ToLower(word)]
			if family == "" || slices.Contains(service.Spec.IPFamilies, family) {
				return problem.Usagef("unknown --ip-family %q: use IPv4, IPv6 or both with a comma", o.IPFamily)
			}
			service.Spec.IPFamilies = append(service.Spec.IPFamilies, family)
		}
		if len(service.Spec.IPFamilies) > 1 {
			prefer := corev1.IPFamilyPolicyPreferDualStack
			service.Spec.IPFamilyPolicy = &prefer
		}
	}
	if o.IPPolicy == "" {
		return nil
	}
	for _, policy := range []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack} {
		if strings.EqualFold(o.IPPolicy, string(policy)) {
			service.Spec.IPFamilyPolicy = &policy
			return nil
		}
	}
	return problem.Usagef("unknown --ip-family-policy %q: use SingleStack, PreferDualStack or RequireDualStack", o.IPPolicy)
}
