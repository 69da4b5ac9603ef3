package wire

import "time"

// DomainState is libvirt's state of the domain, in words.
type DomainState string

const (
	// StateNone: no domain has been started yet.
	StateNone     DomainState = "none"
	StateRunning  DomainState = "running"
	StatePaused   DomainState = "paused"
	StateShutdown DomainState = "shutdown" // on its way to shutoff
	StateShutoff  DomainState = "shutoff"
	StateCrashed  DomainState = "crashed"
)

// Reason is why the domain is in its state; the names are libvirt's.
type Reason string

const (
	ReasonUnknown        Reason = "unknown"
	ReasonBooted         Reason = "booted"
	ReasonMigrated       Reason = "migrated"  // running: came by migration; shutoff: left by migration
	ReasonUser           Reason = "user"      // paused by request
	ReasonIOError        Reason = "ioerror"   // paused
	ReasonMigration      Reason = "migration" // paused for a migration
	ReasonPostCopy       Reason = "postcopy"
	ReasonPostCopyFailed Reason = "postcopy-failed"
	ReasonUnpaused       Reason = "unpaused"
	ReasonShutdown       Reason = "shutdown"  // shutoff: the guest powered itself off
	ReasonDestroyed      Reason = "destroyed" // shutoff: forced
	ReasonCrashed        Reason = "crashed"   // QEMU died
	ReasonPanicked       Reason = "panicked"
	ReasonFailed         Reason = "failed"
)

// State is the domain's state now.
type State struct {
	State  DomainState `json:"state"`
	Reason Reason      `json:"reason,omitempty"`
	// Since is when the domain entered the state.
	Since time.Time `json:"since"`
	// AgentConnected tells whether the guest agent's channel is open in the guest.
	AgentConnected bool `json:"agentConnected,omitempty"`
	// Incoming is set on a migration's target between prepare and the moment the guest runs here.
	Incoming bool `json:"incoming,omitempty"`
	// PluggedMemory is how many bytes the guest uses of its memory device, beside what it started with.
	PluggedMemory uint64 `json:"pluggedMemory,omitempty"`
	// Credentials tells how far StartRequest.Credentials are; nil when nothing is known, or there are none.
	Credentials *CredentialsState `json:"credentials,omitempty"`
	// Detail says what QEMU printed when it failed; bounded.
	Detail string `json:"detail,omitempty"`
}

// Event is one frame of a watch. Every event carries the whole present state; Rebooted marks a guest reset.
type Event struct {
	State    State `json:"state"`
	Rebooted bool  `json:"rebooted,omitempty"`
	// DeviceRemoved is the alias of a device the guest has released.
	DeviceRemoved string `json:"deviceRemoved,omitempty"`
	// Filesystems marks that the guest's filesystems were frozen or thawed.
	Filesystems bool `json:"filesystems,omitempty"`
}

// StartRequest starts the domain.
type StartRequest struct {
	XML string `json:"xml"`
	// Paused leaves the guest stopped before its first instruction.
	Paused bool `json:"paused,omitempty"`
	// GracePeriodSeconds is how long the launcher lets the guest power off by itself when the pod is told to end.
	GracePeriodSeconds int64 `json:"gracePeriodSeconds"`
	// DHCP is what to answer guests on their interfaces; Sockets names the descriptors that come with the request.
	DHCP    []DHCPInterface `json:"dhcp,omitempty"`
	Sockets []SocketRole    `json:"sockets,omitempty"`
	// Incoming does everything but start a guest: it comes by migration. XML is not used then.
	Incoming bool `json:"incoming,omitempty"`
	// DisableConsoleLog keeps the guest's serial output out of the pod's log.
	DisableConsoleLog bool `json:"disableConsoleLog,omitempty"`
	// Credentials go to the guest's users through its agent, now and whenever the Secrets change.
	Credentials []Credential `json:"credentials,omitempty"`
}

// SocketRole tells what a descriptor that came with StartRequest is for.
type SocketRole struct {
	// Interface is the bridge's name.
	Interface string `json:"interface"`
	// Kind is "dhcp4" (bound to UDP 67), "dhcp6" (bound to UDP 547) or "ra" (raw ICMPv6).
	Kind string `json:"kind"`
}

// DHCPInterface is what guests behind one bridge are told.
type DHCPInterface struct {
	Bridge     string   `json:"bridge"`
	GuestMAC   string   `json:"guestMAC,omitempty"`
	IPv4       string   `json:"ipv4,omitempty"` // with prefix length, e.g. 10.0.2.2/24
	Gateway4   string   `json:"gateway4,omitempty"`
	Server4    string   `json:"server4,omitempty"`
	IPv6       string   `json:"ipv6,omitempty"` // with prefix length
	Gateway6   string   `json:"gateway6,omitempty"`
	MTU        uint16   `json:"mtu,omitempty"`
	DNS        []string `json:"dns,omitempty"`
	Search     []string `json:"search,omitempty"`
	Hostname   string   `json:"hostname,omitempty"`
	Routes     []Route  `json:"routes,omitempty"`
	NTP        []string `json:"ntp,omitempty"`
	TFTPServer string   `json:"tftpServer,omitempty"`
	BootFile   string   `json:"bootFile,omitempty"`
	// Private holds DHCP options 224 to 254.
	Private map[int]string `json:"private,omitempty"`
}

// Route is a classless static route (RFC 3442).
type Route struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
}

// DomainXMLRequest asks for the live or the inactive document.
type DomainXMLRequest struct {
	Inactive bool `json:"inactive,omitempty"`
	// Migratable asks for a document another host can start.
	Migratable bool `json:"migratable,omitempty"`
}

// ShutdownRequest asks the guest to power off.
type ShutdownRequest struct {
	// Agent prefers the guest agent over the ACPI power button.
	Agent bool `json:"agent,omitempty"`
}

// DeviceRequest carries one device's XML.
type DeviceRequest struct {
	XML string `json:"xml"`
}

// SetVcpusRequest plugs virtual processors.
type SetVcpusRequest struct {
	Count uint `json:"count"`
}

// ResizeDiskRequest makes a disk larger while the guest runs.
type ResizeDiskRequest struct {
	// Target is the device's name (vda).
	Target string `json:"target"`
	// Bytes is the new size of a file; 0 takes what the block device has become.
	Bytes uint64 `json:"bytes,omitempty"`
}

// DumpRequest names the file that takes the guest's memory.
type DumpRequest struct {
	Path string `json:"path"`
}

// AgentRequest is one guest agent command.
type AgentRequest struct {
	Command        string `json:"command"`
	TimeoutSeconds int    `json:"timeoutSeconds,omitempty"`
}

// FreezeRequest freezes the guest's filesystems; they thaw by themselves after the timeout.
type FreezeRequest struct {
	TimeoutSeconds int64 `json:"timeoutSeconds,omitempty"`
}

// MigrationPortRequest names a target-side stream.
type MigrationPortRequest struct {
	Kind string `json:"kind"` // "memory" or "nbd"
}

// MigrateRequest sends the domain away.
type MigrateRequest struct {
	// XML is the domain as the target shall run it.
	XML string `json:"xml"`
	// LibvirtSocket, MemorySocket and NBDSocket are unix sockets in this pod that lead to the target's.
	LibvirtSocket string `json:"libvirtSocket"`
	MemorySocket  string `json:"memorySocket"`
	NBDSocket     string `json:"nbdSocket,omitempty"`
	// Disks are the targets (vda, ...) whose contents move with the guest.
	Disks             []string `json:"disks,omitempty"`
	BandwidthMiBps    uint64   `json:"bandwidthMiBps,omitempty"`
	MaxDowntimeMillis uint64   `json:"maxDowntimeMillis,omitempty"`
	AutoConverge      bool     `json:"autoConverge,omitempty"`
	PostCopy          bool     `json:"postCopy,omitempty"`
	Unsafe            bool     `json:"unsafe,omitempty"`
	Parallel          int      `json:"parallel,omitempty"`
}

// MigrationProgress is libvirt's job information. Bytes and milliseconds.
type MigrationProgress struct {
	Phase             string `json:"phase"` // setup, precopy, postcopy, done
	ElapsedMillis     uint64 `json:"elapsedMillis"`
	TotalBytes        uint64 `json:"totalBytes"`
	ProcessedBytes    uint64 `json:"processedBytes"`
	RemainingBytes    uint64 `json:"remainingBytes"`
	DirtyRateBytes    uint64 `json:"dirtyRateBytes"` // per second
	TransferRateBytes uint64 `json:"transferRateBytes"`
	DowntimeMillis    uint64 `json:"downtimeMillis,omitempty"`
	ThrottlePercent   int    `json:"throttlePercent,omitempty"` // of its time the guest's processors are held back
	Done              bool   `json:"done,omitempty"`
	Aborted           bool   `json:"aborted,omitempty"`
	Failure           string `json:"failure,omitempty"`
}

// GuestInfo is what the guest agent says; every list and string in it is bounded by the launcher.
type GuestInfo struct {
	Hostname   string           `json:"hostname,omitempty"`
	OS         GuestOS          `json:"os"`
	Timezone   string           `json:"timezone,omitempty"` // "UTC, 0"
	Users      []GuestUser      `json:"users,omitempty"`
	Disks      []GuestFS        `json:"filesystems,omitempty"`
	Interfaces []GuestInterface `json:"interfaces,omitempty"`
	// AgentVersion and Commands come from guest-info.
	AgentVersion string         `json:"agentVersion,omitempty"`
	Commands     []GuestCommand `json:"commands,omitempty"`
	FSFreeze     string         `json:"fsFreeze,omitempty"` // thawed or frozen
	Load         []float64      `json:"load,omitempty"`
}

type GuestCommand struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

type GuestOS struct {
	ID            string `json:"id,omitempty"`
	Name          string `json:"name,omitempty"`
	PrettyName    string `json:"prettyName,omitempty"`
	Version       string `json:"version,omitempty"`
	VersionID     string `json:"versionID,omitempty"`
	KernelRelease string `json:"kernelRelease,omitempty"`
	KernelVersion string `json:"kernelVersion,omitempty"`
	Machine       string `json:"machine,omitempty"`
}

type GuestUser struct {
	Name      string  `json:"name"`
	Domain    string  `json:"domain,omitempty"`
	LoginTime float64 `json:"loginTime"` // seconds since the epoch
}

type GuestFS struct {
	Disk       string        `json:"disk"` // the guest's device name
	MountPoint string        `json:"mountPoint"`
	Type       string        `json:"type"`
	UsedBytes  int64         `json:"usedBytes"`
	TotalBytes int64         `json:"totalBytes"`
	Devices    []GuestFSDisk `json:"devices,omitempty"`
}

type GuestFSDisk struct {
	Serial  string `json:"serial,omitempty"`
	BusType string `json:"busType,omitempty"`
}

type GuestInterface struct {
	Name string   `json:"name"`
	MAC  string   `json:"mac,omitempty"`
	IPs  []string `json:"ips,omitempty"` // without prefix length, most important first
}

// Stats is what libvirt counts, for metrics. Nanoseconds and bytes; names as in virConnectGetAllDomainStats.
type Stats struct {
	Values map[string]uint64 `json:"values"`
	Names  map[string]string `json:"names,omitempty"`
}
