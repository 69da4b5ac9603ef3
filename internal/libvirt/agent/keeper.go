package agent

import (
	"context"
	"reflect"
	"time"

	"virtctl/internal/libvirt/wire"
)

// How long to wait before a refused command is tried again: an agent often comes before cloud-init has made the users, and nothing
// in a guest tells when it has.
const (
	firstRetry = 2 * time.Second
	lastRetry  = time.Minute
)

// Keeper keeps the credentials of a guest's users what the Secrets say.
type Keeper struct {
	List []wire.Credential
	Run  Run
	// Connected tells whether the agent is there.
	Connected func() bool
	// Report takes what became of each try.
	Report func(wire.CredentialsState)

	applied *Credentials
}

// Keep works until ctx ends: connected says that the agent has come, changed that a Secret may have changed.
func (k *Keeper) Keep(ctx context.Context, connected, changed <-chan struct{}) {
	wait := firstRetry
	retry := time.NewTimer(wait)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-connected:
			k.applied, wait = nil, firstRetry // a guest that booted anew may have lost it
		case <-changed:
			wait = firstRetry
		case <-retry.C:
		}
		retry.Stop()
		if k.try(ctx) {
			retry.Reset(wait)
			wait = min(2*wait, lastRetry)
		}
	}
}

// try brings the guest to what the Secrets say, and tells whether another try may help.
func (k *Keeper) try(ctx context.Context) (again bool) {
	wanted, err := ReadCredentials(k.List)
	if err != nil {
		k.Report(wire.CredentialsState{Reason: wire.CredentialsUnreadable, Message: clean(err.Error())})
		return wire.CodeOf(err) != wire.CodeInvalid
	}
	if k.applied != nil && reflect.DeepEqual(*k.applied, wanted) {
		k.Report(wire.CredentialsState{Synchronized: true})
		return false
	}
	if !k.Connected() {
		if k.applied != nil {
			k.Report(NotConnected())
		}
		return false // its coming brings us back
	}
	k.applied = nil
	if err := wanted.Apply(ctx, k.Run); err != nil {
		if ctx.Err() == nil && k.Connected() { // else it has gone in the middle, and that says nothing about the credentials
			k.Report(wire.CredentialsState{Reason: wire.CredentialsRefused, Message: err.Error()})
		}
		return true
	}
	k.applied = &wanted
	k.Report(wire.CredentialsState{Synchronized: true})
	return false
}

// NotConnected is the state of credentials that wait for the agent.
func NotConnected() wire.CredentialsState {
	return wire.CredentialsState{
		Reason:  wire.CredentialsNoAgent,
		Message: "the guest agent is not connected; the credentials are given to the guest when qemu-guest-agent runs in it",
	}
}
