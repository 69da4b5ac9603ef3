package launcherpod

import (
	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
)

const (
	// livenessStartDelay is added to a liveness probe's initial delay: it counts from the container's start, and the guest
	// starts later than that. A readiness probe that starts early does no harm.
	livenessStartDelay = 10
	// agentDelay is added to the timeout of probes that go through the guest agent: the command's way to the guest and back.
	agentDelay = 1
)

// probe turns a VMI's probe into the container's. Probes of ports reach the guest through the pod's network; those that the
// guest agent answers are commands of the launcher.
func probe(p *v1.Probe, delay int32) *corev1.Probe {
	if p == nil {
		return nil
	}
	out := &corev1.Probe{
		InitialDelaySeconds: p.InitialDelaySeconds + delay,
		TimeoutSeconds:      p.TimeoutSeconds,
		PeriodSeconds:       p.PeriodSeconds,
		SuccessThreshold:    p.SuccessThreshold,
		FailureThreshold:    p.FailureThreshold,
	}
	switch {
	case p.GuestAgentPing != nil:
		out.Exec = &corev1.ExecAction{Command: []string{launcherBinary, "agent-ping"}}
		out.TimeoutSeconds = max(p.TimeoutSeconds, 1) + agentDelay
	case p.Exec != nil:
		out.Exec = &corev1.ExecAction{Command: append([]string{launcherBinary, "agent-exec", "--"}, p.Exec.Command...)}
		out.TimeoutSeconds = max(p.TimeoutSeconds, 1) + agentDelay
	case p.HTTPGet != nil:
		out.HTTPGet = p.HTTPGet
	case p.TCPSocket != nil:
		out.TCPSocket = p.TCPSocket
	default:
		return nil
	}
	return out
}
