package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

const (
	defaultProbeTimeout = 5 // seconds
	// pollEvery is how often the guest is asked whether a command has ended: its agent has no event for that.
	pollEvery = 100 * time.Millisecond
	// maxExit is the largest exit code a process can have.
	maxExit = 255
)

// agentPing succeeds if the guest's agent answers. It talks to the launcher of its own pod.
func agentPing(ctx context.Context, args []string) error {
	flags := newFlags("agent-ping")
	timeout := flags.Int("timeout", defaultProbeTimeout, "seconds")
	if err := parse(flags, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*timeout)*time.Second)
	defer cancel()
	_, err := wire.Dial(layout.LauncherSocket).Agent(ctx, wire.AgentRequest{Command: `{"execute":"guest-ping"}`, TimeoutSeconds: *timeout})
	return err
}

// agentExec runs a command in the guest and ends as it does.
func agentExec(ctx context.Context, streams Streams, args []string) error {
	flags := newFlags("agent-exec")
	timeout := flags.Int("timeout", defaultProbeTimeout, "seconds")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("agent-exec needs a command: %w", errUsage)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*timeout)*time.Second)
	defer cancel()
	guest := guestAgent{client: wire.Dial(layout.LauncherSocket), timeout: *timeout}
	pid, err := guest.exec(ctx, flags.Args())
	if err != nil {
		return err
	}
	status, err := guest.wait(ctx, pid)
	if err != nil {
		return err
	}
	_, _ = streams.Stdout.Write(status.Out)
	_, _ = streams.Stderr.Write(status.Err)
	switch {
	case status.Signal != 0:
		return fmt.Errorf("the command was killed in the guest by signal %d", status.Signal)
	case status.Code != 0:
		return exitCode(min(max(status.Code, 1), maxExit))
	}
	return nil
}

type guestAgent struct {
	client  *wire.Client
	timeout int
}

func (g guestAgent) exec(ctx context.Context, command []string) (int64, error) {
	var started struct {
		PID int64 `json:"pid"`
	}
	err := g.call(ctx, "guest-exec", map[string]any{"path": command[0], "arg": command[1:], "capture-output": true}, &started)
	return started.PID, err
}

type execStatus struct {
	Exited bool   `json:"exited"`
	Code   int    `json:"exitcode"`
	Signal int    `json:"signal"`
	Out    []byte `json:"out-data"`
	Err    []byte `json:"err-data"`
}

func (g guestAgent) wait(ctx context.Context, pid int64) (execStatus, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		var status execStatus
		err := g.call(ctx, "guest-exec-status", map[string]any{"pid": pid}, &status)
		if ctx.Err() != nil {
			return status, fmt.Errorf("the command did not end in the guest within %d s; give it more with --timeout", g.timeout)
		}
		if err != nil || status.Exited {
			return status, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (g guestAgent) call(ctx context.Context, name string, arguments, result any) error {
	command, err := json.Marshal(map[string]any{"execute": name, "arguments": arguments})
	if err != nil {
		return fmt.Errorf("write the guest agent's command: %w", err)
	}
	answer, err := g.client.Agent(ctx, wire.AgentRequest{Command: string(command), TimeoutSeconds: g.timeout})
	if err != nil {
		return err
	}
	envelope := struct {
		Return any `json:"return"`
	}{result}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return fmt.Errorf("read the guest agent's answer: %w", err)
	}
	return nil
}
