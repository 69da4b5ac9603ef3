// Package logs is the command that prints what a guest has written to its serial console.
package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Follow     bool
	Tail       int64
	Since      time.Duration
	Timestamps bool
	Launcher   bool
}

const (
	compute = "compute"
	// sidecar is where upstream's launcher pods keep the guest's log.
	sidecar = "guest-console-log"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "logs VMI",
		Short: "Print what a guest has written to its serial console",
		Long: `Print what a guest has written to its serial console since it was started, without connecting to the console.

The log is kept with the machine's pod: it begins when the machine starts and is gone when the machine has stopped.`,
		Example: `  # The boot messages
  {{ProgramName}} logs web

  # The last 20 lines, and those that follow
  {{ProgramName}} logs web --tail 20 -f`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&opts.Follow, "follow", "f", false, "Go on printing what the guest writes")
	flags.Int64Var(&opts.Tail, "tail", -1, "How many of the last lines to print; -1 is all")
	flags.DurationVar(&opts.Since, "since", 0, "Only what is newer than this, for example 5m")
	flags.BoolVar(&opts.Timestamps, "timestamps", false, "Begin each line with the time it was written")
	flags.BoolVar(&opts.Launcher, "launcher", false, "Also print the messages of the program that runs the machine")
	return cmd
}

// Run prints the log.
func Run(ctx context.Context, f *factory.Factory, opts *Options, name string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return err
	}
	if opts.Tail < -1 || opts.Since < 0 {
		return problem.Usagef("--tail and --since must not be negative")
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	pod, err := podOf(ctx, c, t)
	if err != nil {
		return err
	}
	container := compute
	if slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool { return c.Name == sidecar }) {
		container = sidecar
	}
	log, err := c.Log(ctx, t.Namespace, pod.Name, opts.query(container))
	if err != nil {
		return fmt.Errorf("cannot read the log of pod %s: %w", pod.Name, err)
	}
	defer func() { _ = log.Close() }()
	if err := opts.copy(f.Streams.Out, log); ctx.Err() == nil {
		return err
	}
	return problem.Silent(problem.Interrupted)
}

// podOf finds the pod in which the machine runs, or ran last.
func podOf(ctx context.Context, c *client.Client, t client.Target) (corev1.Pod, error) {
	pods, err := reason.LauncherPods(ctx, c, t.Namespace, t.Name)
	if err != nil {
		return corev1.Pod{}, err
	}
	if len(pods) == 0 {
		if _, err := c.VMIs(t.Namespace).Get(ctx, t.Name); err != nil {
			return corev1.Pod{}, fmt.Errorf("cannot read the log of %s: %w", t.Name, target.Explain(ctx, c, t, err))
		}
		return corev1.Pod{}, problem.New(problem.Conflict, "%s has no pod yet, so there is no log; wait with \"virtctl wait %s --for running\"", t.Name, target.Argument(t))
	}
	if i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }); i >= 0 {
		return pods[i], nil
	}
	return pods[0], nil
}

func (o *Options) query(container string) url.Values {
	query := url.Values{"container": {container}}
	if o.Follow {
		query.Set("follow", "true")
	}
	if o.Tail >= 0 {
		query.Set("tailLines", strconv.FormatInt(o.Tail, 10))
	}
	if o.Since > 0 {
		query.Set("sinceSeconds", strconv.FormatInt(int64(max(o.Since/time.Second, 1)), 10))
	}
	if o.Timestamps {
		query.Set("timestamps", "true")
	}
	return query
}

// copy prints the log, without the launcher's own lines unless they are asked for: both share the pod's log.
func (o *Options) copy(out io.Writer, log io.Reader) error {
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		if line != "" && (o.Launcher || !isLaunchers(line, o.Timestamps)) {
			if _, err := io.WriteString(out, line); err != nil {
				return fmt.Errorf("write the log: %w", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return problem.With(problem.Unreachable, fmt.Errorf("read the log: %w", err))
		}
	}
}

// isLaunchers tells whether a line comes from the launcher or from libvirt ("2026-01-02 03:04:05.678+0000: 12: warning : ...").
func isLaunchers(line string, timestamps bool) bool {
	if timestamps {
		_, line, _ = strings.Cut(line, " ")
	}
	if strings.HasPrefix(line, "virt-launcher: ") || strings.HasPrefix(line, `{"component":"virt-launcher",`) {
		return true
	}
	const stamp = "2006-01-02 15:04:05.000-0700"
	if len(line) <= len(stamp) || line[len(stamp)] != ':' {
		return false
	}
	_, err := time.Parse(stamp, line[:len(stamp)])
	return err == nil
}
