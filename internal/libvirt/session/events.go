package session

import (
	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// Event is something that happened to the domain. Exactly one of the fields is set.
type Event struct {
	// Change is a new state.
	Change *Change
	// Agent tells that the guest agent's channel was opened or closed in the guest.
	Agent *bool
	// Rebooted tells that the guest was reset.
	Rebooted bool
	// DeviceRemoved is the alias of a device the guest released.
	DeviceRemoved string
	// PluggedMemory is how many bytes the guest uses now of the memory that can be plugged.
	PluggedMemory *uint64
	// Pass tells that a migration has begun to send memory for the nth time: first all of it, then what has changed meanwhile.
	Pass int
	// Job is the final account of a migration.
	Job *wire.MigrationProgress
}

// Change is a new state of the domain.
type Change struct {
	State  wire.DomainState
	Reason wire.Reason
	// Created tells that QEMU was started just now; Incoming that it waits for a migration.
	Created, Incoming bool
}

func (s *Session) subscribe(sink func(Event)) error {
	if err := s.conn.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { close(s.closed) }); err != nil {
		return wrap("watch the connection to libvirt", err)
	}
	registrations := []func() (int, error){
		func() (int, error) {
			return s.conn.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
				s.lifecycle(e, sink)
			})
		},
		func() (int, error) {
			return s.conn.DomainEventRebootRegister(nil, func(*libvirt.Connect, *libvirt.Domain) { sink(Event{Rebooted: true}) })
		},
		func() (int, error) {
			return s.conn.DomainEventAgentLifecycleRegister(nil, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventAgentLifecycle) {
				connected := e.State == libvirt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
				sink(Event{Agent: &connected})
			})
		},
		func() (int, error) {
			return s.conn.DomainEventDeviceRemovedRegister(nil, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventDeviceRemoved) {
				sink(Event{DeviceRemoved: e.DevAlias})
			})
		},
		func() (int, error) {
			return s.conn.DomainEventMemoryDeviceSizeChangeRegister(nil,
				func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventMemoryDeviceSizeChange) {
					bytes := e.Size << 10 // libvirt says KiB
					sink(Event{PluggedMemory: &bytes})
				})
		},
		func() (int, error) {
			return s.conn.DomainEventMigrationIterationRegister(nil, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventMigrationIteration) {
				sink(Event{Pass: e.Iteration})
			})
		},
		func() (int, error) {
			return s.conn.DomainEventJobCompletedRegister(nil, func(_ *libvirt.Connect, _ *libvirt.Domain, e *libvirt.DomainEventJobCompleted) {
				job := progressOf(&e.Info)
				job.Phase = "done"
				sink(Event{Job: &job})
			})
		},
	}
	for _, register := range registrations {
		if _, err := register(); err != nil {
			return wrap("watch libvirt's events", err)
		}
	}
	return nil
}

func (s *Session) lifecycle(e *libvirt.DomainEventLifecycle, sink func(Event)) {
	change := changeOf(e)
	if change == nil {
		return
	}
	if change.State == wire.StateShutoff || change.State == wire.StateCrashed {
		s.forget()
	}
	sink(Event{Change: change})
}

// changeOf translates a lifecycle event; nil for events that change nothing for us.
func changeOf(e *libvirt.DomainEventLifecycle) *Change {
	switch e.Event {
	case libvirt.DOMAIN_EVENT_STARTED:
		if libvirt.DomainEventStartedDetailType(e.Detail) == libvirt.DOMAIN_EVENT_STARTED_MIGRATED {
			return &Change{State: wire.StatePaused, Reason: wire.ReasonMigration, Created: true, Incoming: true}
		}
		return &Change{State: wire.StateRunning, Reason: wire.ReasonBooted, Created: true}
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		return &Change{State: wire.StatePaused, Reason: suspendedReason(libvirt.DomainEventSuspendedDetailType(e.Detail))}
	case libvirt.DOMAIN_EVENT_RESUMED:
		return &Change{State: wire.StateRunning, Reason: resumedReason(libvirt.DomainEventResumedDetailType(e.Detail))}
	case libvirt.DOMAIN_EVENT_SHUTDOWN:
		return &Change{State: wire.StateShutdown, Reason: wire.ReasonUnknown}
	case libvirt.DOMAIN_EVENT_STOPPED:
		state, reason := stoppedReason(libvirt.DomainEventStoppedDetailType(e.Detail))
		return &Change{State: state, Reason: reason}
	case libvirt.DOMAIN_EVENT_CRASHED:
		// on_crash=preserve: QEMU still exists, the guest does not.
		return &Change{State: wire.StatePaused, Reason: wire.ReasonPanicked}
	}
	return nil
}

func suspendedReason(d libvirt.DomainEventSuspendedDetailType) wire.Reason {
	switch d {
	case libvirt.DOMAIN_EVENT_SUSPENDED_PAUSED:
		return wire.ReasonUser
	case libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED:
		return wire.ReasonMigration
	case libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR:
		return wire.ReasonIOError
	case libvirt.DOMAIN_EVENT_SUSPENDED_POSTCOPY:
		return wire.ReasonPostCopy
	case libvirt.DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED:
		return wire.ReasonPostCopyFailed
	}
	return wire.ReasonUnknown
}

func resumedReason(d libvirt.DomainEventResumedDetailType) wire.Reason {
	switch d {
	case libvirt.DOMAIN_EVENT_RESUMED_MIGRATED:
		return wire.ReasonMigrated
	case libvirt.DOMAIN_EVENT_RESUMED_POSTCOPY:
		return wire.ReasonPostCopy
	case libvirt.DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED:
		return wire.ReasonPostCopyFailed
	}
	return wire.ReasonUnpaused
}

func stoppedReason(d libvirt.DomainEventStoppedDetailType) (wire.DomainState, wire.Reason) {
	switch d {
	case libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return wire.StateShutoff, wire.ReasonShutdown
	case libvirt.DOMAIN_EVENT_STOPPED_DESTROYED:
		return wire.StateShutoff, wire.ReasonDestroyed
	case libvirt.DOMAIN_EVENT_STOPPED_MIGRATED:
		return wire.StateShutoff, wire.ReasonMigrated
	case libvirt.DOMAIN_EVENT_STOPPED_CRASHED:
		return wire.StateCrashed, wire.ReasonPanicked
	case libvirt.DOMAIN_EVENT_STOPPED_FAILED:
		return wire.StateCrashed, wire.ReasonCrashed // QEMU's monitor closed without a shutdown before it
	}
	return wire.StateShutoff, wire.ReasonUnknown
}

// stateOf translates what virDomainGetState says.
func stateOf(state libvirt.DomainState, detail int) (wire.DomainState, wire.Reason) {
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_PMSUSPENDED:
		return wire.StateRunning, runningReason(libvirt.DomainRunningReason(detail))
	case libvirt.DOMAIN_PAUSED:
		return wire.StatePaused, pausedReason(libvirt.DomainPausedReason(detail))
	case libvirt.DOMAIN_SHUTDOWN:
		return wire.StateShutdown, wire.ReasonUnknown
	case libvirt.DOMAIN_CRASHED:
		return wire.StateCrashed, wire.ReasonPanicked
	}
	return wire.StateShutoff, shutoffReason(libvirt.DomainShutoffReason(detail))
}

func runningReason(r libvirt.DomainRunningReason) wire.Reason {
	switch r {
	case libvirt.DOMAIN_RUNNING_BOOTED:
		return wire.ReasonBooted
	case libvirt.DOMAIN_RUNNING_MIGRATED:
		return wire.ReasonMigrated
	case libvirt.DOMAIN_RUNNING_POSTCOPY:
		return wire.ReasonPostCopy
	case libvirt.DOMAIN_RUNNING_POSTCOPY_FAILED:
		return wire.ReasonPostCopyFailed
	case libvirt.DOMAIN_RUNNING_UNPAUSED, libvirt.DOMAIN_RUNNING_MIGRATION_CANCELED:
		return wire.ReasonUnpaused
	}
	return wire.ReasonUnknown
}

func pausedReason(r libvirt.DomainPausedReason) wire.Reason {
	switch r {
	case libvirt.DOMAIN_PAUSED_USER:
		return wire.ReasonUser
	case libvirt.DOMAIN_PAUSED_MIGRATION:
		return wire.ReasonMigration
	case libvirt.DOMAIN_PAUSED_IOERROR:
		return wire.ReasonIOError
	case libvirt.DOMAIN_PAUSED_POSTCOPY:
		return wire.ReasonPostCopy
	case libvirt.DOMAIN_PAUSED_POSTCOPY_FAILED:
		return wire.ReasonPostCopyFailed
	case libvirt.DOMAIN_PAUSED_CRASHED:
		return wire.ReasonPanicked
	}
	return wire.ReasonUnknown
}

func shutoffReason(r libvirt.DomainShutoffReason) wire.Reason {
	switch r {
	case libvirt.DOMAIN_SHUTOFF_SHUTDOWN:
		return wire.ReasonShutdown
	case libvirt.DOMAIN_SHUTOFF_DESTROYED:
		return wire.ReasonDestroyed
	case libvirt.DOMAIN_SHUTOFF_CRASHED:
		return wire.ReasonCrashed
	case libvirt.DOMAIN_SHUTOFF_MIGRATED:
		return wire.ReasonMigrated
	case libvirt.DOMAIN_SHUTOFF_FAILED:
		return wire.ReasonFailed
	}
	return wire.ReasonUnknown
}
