package session

import (
	"errors"
	"strings"
	"testing"

	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// What the handler makes of a domain's end depends on these: a crash restarts a guest that a power off does not.
func TestLifecycleEvents(t *testing.T) {
	for _, tc := range []struct {
		event  libvirt.DomainEventType
		detail int
		want   *Change
	}{
		{libvirt.DOMAIN_EVENT_STARTED, int(libvirt.DOMAIN_EVENT_STARTED_BOOTED), &Change{wire.StateRunning, wire.ReasonBooted, true, false}},
		{libvirt.DOMAIN_EVENT_STARTED, int(libvirt.DOMAIN_EVENT_STARTED_MIGRATED), &Change{wire.StatePaused, wire.ReasonMigration, true, true}},
		{libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_PAUSED), &Change{State: wire.StatePaused, Reason: wire.ReasonUser}},
		{libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR), &Change{State: wire.StatePaused, Reason: wire.ReasonIOError}},
		{libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_MIGRATED), &Change{State: wire.StatePaused, Reason: wire.ReasonMigration}},
		{libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED), &Change{State: wire.StatePaused, Reason: wire.ReasonPostCopyFailed}},
		{libvirt.DOMAIN_EVENT_RESUMED, int(libvirt.DOMAIN_EVENT_RESUMED_MIGRATED), &Change{State: wire.StateRunning, Reason: wire.ReasonMigrated}},
		{libvirt.DOMAIN_EVENT_RESUMED, int(libvirt.DOMAIN_EVENT_RESUMED_UNPAUSED), &Change{State: wire.StateRunning, Reason: wire.ReasonUnpaused}},
		{libvirt.DOMAIN_EVENT_SHUTDOWN, 0, &Change{State: wire.StateShutdown, Reason: wire.ReasonUnknown}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN), &Change{State: wire.StateShutoff, Reason: wire.ReasonShutdown}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_DESTROYED), &Change{State: wire.StateShutoff, Reason: wire.ReasonDestroyed}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_MIGRATED), &Change{State: wire.StateShutoff, Reason: wire.ReasonMigrated}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_FAILED), &Change{State: wire.StateCrashed, Reason: wire.ReasonCrashed}},
		{libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_CRASHED), &Change{State: wire.StateCrashed, Reason: wire.ReasonPanicked}},
		{libvirt.DOMAIN_EVENT_DEFINED, 0, nil},
	} {
		got := changeOf(&libvirt.DomainEventLifecycle{Event: tc.event, Detail: tc.detail})
		if (got == nil) != (tc.want == nil) || got != nil && *got != *tc.want {
			t.Errorf("event %d, detail %d: %+v, want %+v", tc.event, tc.detail, got, tc.want)
		}
	}
}

func TestStates(t *testing.T) {
	for _, tc := range []struct {
		state  libvirt.DomainState
		detail int
		want   wire.DomainState
		reason wire.Reason
	}{
		{libvirt.DOMAIN_RUNNING, int(libvirt.DOMAIN_RUNNING_BOOTED), wire.StateRunning, wire.ReasonBooted},
		{libvirt.DOMAIN_RUNNING, int(libvirt.DOMAIN_RUNNING_MIGRATED), wire.StateRunning, wire.ReasonMigrated},
		{libvirt.DOMAIN_PMSUSPENDED, 0, wire.StateRunning, wire.ReasonUnknown},
		{libvirt.DOMAIN_PAUSED, int(libvirt.DOMAIN_PAUSED_USER), wire.StatePaused, wire.ReasonUser},
		{libvirt.DOMAIN_PAUSED, int(libvirt.DOMAIN_PAUSED_IOERROR), wire.StatePaused, wire.ReasonIOError},
		{libvirt.DOMAIN_PAUSED, int(libvirt.DOMAIN_PAUSED_STARTING_UP), wire.StatePaused, wire.ReasonUnknown},
		{libvirt.DOMAIN_SHUTDOWN, 0, wire.StateShutdown, wire.ReasonUnknown},
		{libvirt.DOMAIN_SHUTOFF, int(libvirt.DOMAIN_SHUTOFF_CRASHED), wire.StateShutoff, wire.ReasonCrashed},
		{libvirt.DOMAIN_CRASHED, 0, wire.StateCrashed, wire.ReasonPanicked},
	} {
		if state, reason := stateOf(tc.state, tc.detail); state != tc.want || reason != tc.reason {
			t.Errorf("state %d, detail %d: %s, %s", tc.state, tc.detail, state, reason)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for want, err := range map[wire.Code]libvirt.Error{
		wire.CodeNotFound:    {Code: libvirt.ERR_NO_DOMAIN, Message: "gone"},
		wire.CodeConflict:    {Code: libvirt.ERR_OPERATION_INVALID, Message: "not now"},
		wire.CodeInvalid:     {Code: libvirt.ERR_XML_ERROR, Message: "bad document"},
		wire.CodeUnavailable: {Code: libvirt.ERR_INTERNAL_ERROR, Domain: libvirt.FROM_RPC, Message: "client socket is closed"},
		wire.CodeInternal:    {Code: libvirt.ERR_INTERNAL_ERROR, Domain: libvirt.FROM_QEMU, Message: "QEMU said no"},
	} {
		got := wrap("try", err)
		if wire.CodeOf(got) != want || got.Error() != "try: "+err.Message {
			t.Errorf("%+v became %v (%s)", err, got, wire.CodeOf(got))
		}
	}
	if wrap("try", nil) != nil || wire.CodeOf(wrap("try", errors.New("x"))) != wire.CodeInternal {
		t.Error("no error, or a foreign one, is wrapped wrongly")
	}
}

func TestProgress(t *testing.T) {
	got := progressOf(&libvirt.DomainJobInfo{
		TimeElapsed: 10, DataTotal: 100, DataProcessed: 60, DataRemaining: 40, MemDirtyRate: 2, MemPageSize: 4096, MemBps: 5, DiskBps: 6, Downtime: 7,
	})
	want := wire.MigrationProgress{
		Phase: "precopy", ElapsedMillis: 10, TotalBytes: 100, ProcessedBytes: 60, RemainingBytes: 40, DirtyRateBytes: 8192, TransferRateBytes: 11, DowntimeMillis: 7,
	}
	if got != want {
		t.Errorf("%+v", got)
	}
	if got := progressOf(&libvirt.DomainJobInfo{}); got.Phase != "setup" {
		t.Errorf("%+v", got)
	}
}

func TestURI(t *testing.T) {
	if got := URI("/run/a b/libvirt-sock"); !strings.HasSuffix(got, "socket=%2Frun%2Fa+b%2Flibvirt-sock") {
		t.Error(got)
	}
}
