// Package wire is the protocol between virt-handler and virt-launcher.
//
// The launcher serves it on a unix socket inside its pod (layout.LauncherSocket). It speaks in libvirt's terms (domain XML,
// domain events, device XML), never in Kubernetes terms, so that a handler of version N+1 can run launchers of versions N
// and N-1 and an upgrade stays invisible to running guests.
//
// One call is one connection: a frame (4 bytes big endian length, then JSON) with the request, a frame with the reply. File
// descriptors travel as SCM_RIGHTS beside the frame that mentions them. Watch and Migrate keep the connection open and
// answer with a stream of frames; closing the connection ends them.
package wire

import "encoding/json"

// Version is the protocol's version. It grows only when a launcher could misunderstand a newer handler.
const Version = 1

// MaxFrame bounds what either side reads as one message, in bytes.
const MaxFrame = 8 << 20

// Method names a call.
type Method string

// The calls. Each comment gives params -> result, then what travels as file descriptors.
const (
	// MethodInfo: nothing -> Info.
	MethodInfo Method = "info"
	// MethodPrepare: PrepareRequest -> PrepareResult. Makes the disks ready and says what they are; may be called again.
	MethodPrepare Method = "prepare"
	// MethodStart: StartRequest -> State; fds: the sockets named in StartRequest.Sockets, in that order.
	// Starting a domain that runs already answers with its state.
	MethodStart Method = "start"
	// MethodState: nothing -> State.
	MethodState Method = "state"
	// MethodWatch: nothing -> a stream of Event, the first one being the present state.
	MethodWatch Method = "watch"
	// MethodDomainXML: DomainXMLRequest -> XML.
	MethodDomainXML Method = "domain-xml"
	// MethodShutdown: ShutdownRequest -> nothing. Asks the guest to power off and returns at once; the launcher asks again every
	// few seconds until the guest has.
	MethodShutdown Method = "shutdown"
	// MethodDestroy: nothing -> State. Ends QEMU now.
	MethodDestroy Method = "destroy"
	// MethodQuit: nothing -> nothing. The launcher exits with code 0; a domain that still runs is destroyed first.
	MethodQuit Method = "quit"
	// MethodSuspend, MethodResume, MethodReset: nothing -> State.
	MethodSuspend Method = "suspend"
	MethodResume  Method = "resume"
	MethodReset   Method = "reset"
	// MethodReboot: nothing -> nothing. By the guest agent when it is connected, else by ACPI.
	MethodReboot Method = "reboot"
	// MethodAttach, MethodDetach, MethodUpdate: DeviceRequest -> nothing. Detach returns when the guest released the device.
	MethodAttach Method = "attach"
	MethodDetach Method = "detach"
	MethodUpdate Method = "update"
	// MethodSetVcpus: SetVcpusRequest -> nothing.
	MethodSetVcpus Method = "set-vcpus"
	// MethodResizeDisk: ResizeDiskRequest -> nothing. Tells QEMU and the guest that a disk has grown.
	MethodResizeDisk Method = "resize-disk"
	// MethodDump: DumpRequest -> nothing. Writes the guest's memory to a file of the pod; the guest stands still meanwhile.
	MethodDump Method = "dump"
	// MethodConsole: ConsoleRequest -> nothing; fd: a stream socket joined to the guest's first serial port. A new session
	// ends the one before.
	MethodConsole Method = "console"
	// MethodVNC: nothing -> nothing; fd: a stream socket joined to QEMU's VNC server.
	MethodVNC Method = "vnc"
	// MethodUSB: USBRequest -> nothing; fd: a stream socket joined to a place for a client's USB device.
	MethodUSB Method = "usb"
	// MethodPark: ParkRequest -> nothing; fd: one of the streams above, which the launcher keeps for the next virt-handler.
	// MethodUnpark: ParkRequest -> nothing; fd: the stream.
	MethodPark   Method = "park"
	MethodUnpark Method = "unpark"
	// MethodScreenshot: nothing -> Blob (image/png).
	MethodScreenshot Method = "screenshot"
	// MethodAgent: AgentRequest -> Blob (the agent's JSON answer, bounded).
	MethodAgent Method = "agent"
	// MethodFreeze: FreezeRequest -> nothing; MethodThaw: nothing -> nothing.
	MethodFreeze Method = "freeze"
	MethodThaw   Method = "thaw"
	// MethodGuestInfo: nothing -> GuestInfo.
	MethodGuestInfo Method = "guest-info"
	// MethodStats: nothing -> Stats.
	MethodStats Method = "stats"
	// MethodLibvirt: nothing -> nothing; fd: a stream socket joined to the pod's virtqemud (the target end of a migration).
	MethodLibvirt Method = "libvirt"
	// MethodMigrationPort: MigrationPortRequest -> nothing; fd: a stream socket joined to the unix socket QEMU listens on for
	// incoming memory ("memory") or disks ("nbd") on the target.
	MethodMigrationPort Method = "migration-port"
	// MethodMigrate: MigrateRequest -> a stream of MigrationProgress; the last one has Done set. Closing the connection does
	// not abort: MethodAbortMigration does. While a migration runs, another call joins it.
	MethodMigrate        Method = "migrate"
	MethodAbortMigration Method = "abort-migration"
	// MethodPostCopy: nothing -> nothing. Switches the running migration to post-copy.
	MethodPostCopy Method = "post-copy"
	// MethodArrival: nothing -> MigrationProgress. The account of the migration that brought the guest here.
	MethodArrival Method = "arrival"
)

// ConsoleRequest asks for a session on the guest's first serial port.
type ConsoleRequest struct {
	// Replay begins the session with the guest's recent output.
	Replay bool `json:"replay,omitempty"`
}

// ParkRequest names a stream that is kept.
type ParkRequest struct {
	Key string `json:"key"`
}

// USBRequest asks for the stream of a place for a client's USB device.
type USBRequest struct {
	// Slot is from 0 to layout.USBSlots-1.
	Slot int `json:"slot"`
}

// Request is the first frame of a connection.
type Request struct {
	Version int             `json:"version"`
	Method  Method          `json:"method"`
	Params  json.RawMessage `json:"params,omitempty"`
}

// Reply is every frame that comes back. Exactly one of Error and Result is set; both may be absent for an empty result.
type Reply struct {
	Error  *Error          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Code classes an error by what the handler should do about it.
type Code string

const (
	// CodeInvalid: the request or something the user supplied (a disk image) is wrong; trying again does not help.
	CodeInvalid Code = "invalid"
	// CodeNotFound: there is no domain, no device, no console.
	CodeNotFound Code = "not-found"
	// CodeConflict: the domain's state does not allow it now.
	CodeConflict Code = "conflict"
	// CodeUnavailable: the guest agent or QEMU does not answer; trying again may help.
	CodeUnavailable Code = "unavailable"
	// CodeInternal: libvirt or the launcher failed.
	CodeInternal Code = "internal"
)

// Error is an error that crossed the wire.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Disk names the volume the error is about, if it is about one.
	Disk string `json:"disk,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Info says who answers.
type Info struct {
	Version         int    `json:"version"`
	LauncherVersion string `json:"launcherVersion"`
	LibvirtVersion  string `json:"libvirtVersion,omitempty"`
	QEMUVersion     string `json:"qemuVersion,omitempty"`
}

// Blob carries bytes with their media type.
type Blob struct {
	MediaType string `json:"mediaType"`
	Data      []byte `json:"data"`
}

// XML carries a libvirt document.
type XML struct {
	XML string `json:"xml"`
}
