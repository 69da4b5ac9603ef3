package launcher

import (
	"virtctl/internal/libvirt/agent"
	"virtctl/internal/libvirt/process"
	"virtctl/internal/libvirt/wire"
)

// keepCredentials gives the guest's users what the Secrets hold, as long as the launcher runs. A guest that comes from another node
// has them: nothing is said about it until its agent was asked here.
func (l *Launcher) keepCredentials(list []wire.Credential, incoming bool) {
	if len(list) == 0 {
		return
	}
	if !incoming {
		l.machine.setCredentials(agent.NotConnected())
	}
	keeper := agent.Keeper{
		List: list, Connected: l.machine.agentReachable, Report: l.reportCredentials,
		Run: func(command string) ([]byte, error) {
			s, err := l.connectedAgent(l.ctx)
			if err != nil {
				return nil, err
			}
			answer, err := s.Agent(command, agentTimeout)
			return []byte(answer), err
		},
	}
	var dirs []string
	for _, c := range list {
		dirs = append(dirs, c.Dir)
	}
	go keeper.Keep(l.ctx, l.machine.came, l.machine.changed)
	go func() {
		if err := process.WatchProjected(l.ctx, dirs, func() { poke(l.machine.changed) }); err != nil {
			l.logf("changed Secrets of accessCredentials do not reach the guest: %v", err)
		}
	}()
}

func (l *Launcher) reportCredentials(state wire.CredentialsState) {
	if !state.Synchronized && (l.machine.current().Credentials == nil || *l.machine.current().Credentials != state) {
		l.logf("access credentials: %s", state.Message)
	}
	l.machine.setCredentials(state)
}
