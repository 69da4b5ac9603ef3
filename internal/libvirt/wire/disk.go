package wire

// DiskKind is how a volume becomes something QEMU can open.
type DiskKind string

const (
	// DiskImage: the one file below Source (an image volume's /disk, or Source itself when it is a file), read-only, with a
	// qcow2 overlay on top that lives as long as the pod.
	DiskImage DiskKind = "image"
	// DiskFile: the file Source (a claim's disk.img); made with Capacity bytes if it is not there and Create is set.
	DiskFile DiskKind = "file"
	// DiskBlock: the block device Source.
	DiskBlock DiskKind = "block"
	// DiskOverlay: a qcow2 overlay on the file or device Source, dropped with the pod (ephemeral volumes).
	DiskOverlay DiskKind = "overlay"
	// DiskEmpty: a new qcow2 of Capacity bytes.
	DiskEmpty DiskKind = "empty"
	// DiskISO: an ISO9660 image with Label made of Files and of the tree below Source.
	DiskISO DiskKind = "iso"
)

// DiskSpec asks for one disk.
type DiskSpec struct {
	// Name is the volume's name.
	Name string   `json:"name"`
	Kind DiskKind `json:"kind"`
	// Source is a path in the pod.
	Source string `json:"source,omitempty"`
	// Path selects a file inside an image volume; empty means the only file in /disk.
	Path     string `json:"path,omitempty"`
	Capacity int64  `json:"capacity,omitempty"`
	Create   bool   `json:"create,omitempty"`
	// MaxVirtualSize refuses images whose guest-visible size is larger, in bytes; 0 means no limit.
	MaxVirtualSize int64 `json:"maxVirtualSize,omitempty"`
	Preallocate    bool  `json:"preallocate,omitempty"`
	// Image is where an ISO is made; empty means a name of the launcher's own.
	Image string `json:"image,omitempty"`
	// Link is another name under which an ISO is found.
	Link string `json:"link,omitempty"`
	// Label and Files describe an ISO. CloudInit fills user-data and friends from files below Source.
	Label     string     `json:"label,omitempty"`
	Files     []ISOFile  `json:"files,omitempty"`
	CloudInit *CloudInit `json:"cloudInit,omitempty"`
}

// ISOFile is one file of an ISO: Content, or, when From is set, the content of that file in the pod.
type ISOFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content,omitempty"`
	From    string `json:"from,omitempty"`
	// Optional files whose From does not exist are left out.
	Optional bool `json:"optional,omitempty"`
	// Needed tells that of the optional files for this path one must exist.
	Needed bool `json:"needed,omitempty"`
	// Base64 tells that From or Content holds base64.
	Base64 bool `json:"base64,omitempty"`
}

// CloudInit adds SSH public keys found in Secrets to the metadata.
type CloudInit struct {
	// Type is "nocloud" or "configdrive".
	Type       string `json:"type"`
	InstanceID string `json:"instanceID"`
	Hostname   string `json:"hostname"`
	UUID       string `json:"uuid,omitempty"`
	// InstanceType goes into NoCloud's instance-type.
	InstanceType string `json:"instanceType,omitempty"`
	// KeyDirs are directories whose files hold SSH public keys.
	KeyDirs []string `json:"keyDirs,omitempty"`
	// Devices is ConfigDrive's list of tagged devices.
	Devices []CloudInitDevice `json:"devices,omitempty"`
}

// CloudInitDevice is one entry of ConfigDrive's "devices".
type CloudInitDevice struct {
	Type    string   `json:"type"`
	Bus     string   `json:"bus"`
	Address string   `json:"address"`
	MAC     string   `json:"mac,omitempty"`
	Tags    []string `json:"tags"`
}

// PrepareRequest makes a pod ready for a domain.
type PrepareRequest struct {
	Disks []DiskSpec `json:"disks"`
	// CapabilitiesCache is libvirt's cache of what this node's QEMU can do (file name -> content), so that virtqemud need not
	// probe QEMU again. Only virt-handler's own probe writes it.
	CapabilitiesCache map[string][]byte `json:"capabilitiesCache,omitempty"`
	// Kernel names files of a kernel image volume that must exist (kernel boot).
	Kernel []string `json:"kernel,omitempty"`
	// Incoming prepares a migration's target.
	Incoming bool `json:"incoming,omitempty"`
}

// PrepareResult says what the disks are.
type PrepareResult struct {
	Disks []DiskFacts `json:"disks"`
}

// DiskFacts is what QEMU shall open for a volume.
type DiskFacts struct {
	Name string `json:"name"`
	// Path is the file or device the domain uses.
	Path   string `json:"path"`
	Block  bool   `json:"block,omitempty"`
	Format string `json:"format"` // raw or qcow2
	// Backing is set for overlays.
	Backing       string `json:"backing,omitempty"`
	BackingFormat string `json:"backingFormat,omitempty"`
	BackingBlock  bool   `json:"backingBlock,omitempty"`
	VirtualSize   int64  `json:"virtualSize"`
	// DirectIO tells that the file can be opened with O_DIRECT.
	DirectIO bool `json:"directIO,omitempty"`
	ReadOnly bool `json:"readOnly,omitempty"`
	// Preallocated tells that the file has no holes.
	Preallocated bool `json:"preallocated,omitempty"`
}
