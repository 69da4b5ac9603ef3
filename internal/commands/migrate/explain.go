package migrate

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/action"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/obstacle"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
	"virtctl/internal/commands/target"
)

// Plan is what a dry run finds out about one machine.
type Plan struct {
	Namespace string               `json:"namespace"`
	VM        string               `json:"vm"`
	Node      string               `json:"node,omitempty"`
	Movable   bool                 `json:"movable"`
	Obstacles []obstacle.Obstacle  `json:"obstacles,omitempty"`
	Nodes     []obstacle.Candidate `json:"nodes,omitempty"`
	// Unknown says what could not be looked at.
	Unknown []string `json:"unknown,omitempty"`
}

// explain lists for every chosen machine what keeps it where it is, and where it could go.
func explain(ctx context.Context, f *factory.Factory, opts *Options, wanted map[string]string, args []string) error {
	if err := opts.Check(args); err != nil {
		return err
	}
	targets, err := opts.Selection.Resolve(ctx, f, target.VM, args)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	if opts.Output.IsTable() {
		f.Streams.Print("Dry Run execution\n")
	}
	e := &explainer{client: c, wanted: wanted}
	stuck := false
	var failed []error
	for _, t := range targets {
		plan, err := e.plan(ctx, t)
		if err != nil {
			failed = append(failed, fmt.Errorf("cannot explain the migration of %s %s: %w", target.Word(t), t.Name, target.Explain(ctx, c, t, err)))
			continue
		}
		stuck = stuck || !plan.Movable
		if err := show(f, opts, t, plan); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 && stuck {
		return problem.Silent(problem.Conflict)
	}
	return problem.Join(f.Streams, f.Program, failed)
}

type explainer struct {
	client *client.Client
	wanted map[string]string
	// nodes and pods are read once.
	read    bool
	nodes   []corev1.Node
	pods    []corev1.Pod
	unknown []string
}

func (e *explainer) plan(ctx context.Context, t client.Target) (*Plan, error) {
	p := &Plan{Namespace: t.Namespace, VM: t.Name}
	vmi, err := e.client.VMIs(t.Namespace).Get(ctx, t.Name)
	switch {
	case apierrors.IsNotFound(err):
		if _, err := e.client.VMs(t.Namespace).Get(ctx, t.Name); err != nil {
			return nil, err
		}
		vmi = nil
	case err != nil:
		return nil, err
	default:
		p.Node = vmi.Status.NodeName
	}
	moving, err := e.moving(ctx, t)
	if err != nil {
		p.Unknown = append(p.Unknown, "migrations under way: "+err.Error())
	}
	p.Obstacles = obstacle.Of(vmi, moving)
	if vmi != nil && vmi.Status.Phase == kubevirtv1.Running {
		e.candidates(ctx, t, p)
		if len(p.Obstacles) == 0 {
			e.ask(ctx, t, p)
		}
	}
	p.Movable = len(p.Obstacles) == 0
	return p, nil
}

func (e *explainer) moving(ctx context.Context, t client.Target) (*kubevirtv1.VirtualMachineInstanceMigration, error) {
	list, err := e.client.Migrations(t.Namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if m := &list.Items[i]; m.Spec.VMIName == t.Name && !m.IsFinal() {
			return m, nil
		}
	}
	return nil, nil
}

// ask lets the server judge, whose word counts.
func (e *explainer) ask(ctx context.Context, t client.Target, p *Plan) {
	err := e.client.Migrate(ctx, t.Namespace, t.Name, &kubevirtv1.MigrateOptions{AddedNodeSelector: e.wanted, DryRun: []string{metav1.DryRunAll}})
	if err == nil {
		return
	}
	cure := "see \"virtctl describe\" for the machine's conditions"
	if apierrors.IsForbidden(err) {
		cure = "ask an administrator for the role kubevirt.io:migrate in the namespace"
	}
	p.Obstacles = append(p.Obstacles, obstacle.Obstacle{Reason: "Refused", Message: "the server refuses the migration: " + err.Error(), Cure: cure})
}

func (e *explainer) candidates(ctx context.Context, t client.Target, p *Plan) {
	e.look(ctx)
	p.Unknown = append(p.Unknown, e.unknown...)
	if e.nodes == nil {
		return
	}
	launchers, err := reason.LauncherPods(ctx, e.client, t.Namespace, t.Name)
	pod := running(launchers, p.Node)
	if err == nil && pod == nil {
		err = errors.New("it is not there")
	}
	if err != nil {
		p.Unknown = append(p.Unknown, "its pod: "+err.Error())
		return
	}
	p.Nodes = obstacle.Candidates(pod, e.wanted, e.nodes, e.pods)
	for _, n := range p.Nodes {
		if n.Suitable {
			return
		}
	}
	p.Obstacles = append(p.Obstacles, obstacle.Obstacle{
		Reason: "NoNode", Message: "no node can take it", Cure: "cure what is said below about one of the nodes, or add a node",
	})
}

func running(pods []corev1.Pod, node string) *corev1.Pod {
	for i := range pods {
		if p := &pods[i]; p.Spec.NodeName == node && p.Status.Phase == corev1.PodRunning {
			return p
		}
	}
	return nil
}

// look reads the nodes and what runs on them; not everybody may.
func (e *explainer) look(ctx context.Context) {
	if e.read {
		return
	}
	e.read = true
	nodes, err := e.client.Nodes().List(ctx, client.ListOptions{})
	if err != nil {
		e.unknown = append(e.unknown, "which nodes could take it: "+err.Error())
		return
	}
	e.nodes = nodes.Items
	pods, err := e.client.Pods("").List(ctx, client.ListOptions{})
	if err != nil {
		e.unknown = append(e.unknown, "how much room the nodes have: "+err.Error())
		return
	}
	e.pods = append([]corev1.Pod{}, pods.Items...)
}

func show(f *factory.Factory, opts *Options, t client.Target, p *Plan) error {
	if opts.Output.Format == output.Name {
		return opts.Output.Object(f.Streams, client.VirtualMachine(), t.Name, nil)
	}
	if !opts.Output.IsTable() {
		return opts.Output.Value(f.Streams, p)
	}
	print := f.Streams.Print
	if p.Movable {
		print("%s\n", action.WouldBe("migrate")(t))
	} else {
		print("%s %s cannot migrate (dry run: nothing was changed)\n", target.Word(t), t.Name)
	}
	for _, o := range p.Obstacles {
		print("  - %s [%s]\n    cure: %s\n", o.Message, o.Reason, o.Cure)
	}
	for _, n := range p.Nodes {
		room := ""
		if n.FreeCPU != "" {
			room = fmt.Sprintf(" (free: cpu %s, memory %s)", n.FreeCPU, n.FreeMemory)
		}
		if n.Suitable {
			print("  node %s could take it%s\n", n.Node, room)
		}
		for _, why := range n.Why {
			print("  node %s cannot take it: %s\n", n.Node, why)
		}
	}
	for _, u := range p.Unknown {
		f.Streams.Say("warning: not known: %s\n", u)
	}
	return nil
}
