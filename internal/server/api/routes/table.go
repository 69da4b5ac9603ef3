// Package routes is the one table of the subresources virt-api serves. The HTTP multiplexer, the access review of every
// request, API discovery, the OpenAPI documents, the users' cluster roles and docs/reference/subresources.md are made from
// it, so that they cannot disagree (CVE-2026-6383 was such a disagreement).
package routes

import (
	"net/http"
	"strings"
)

// Group is the API group of the subresources.
const Group = "subresources.kubevirt.io"

// Versions lists the served versions, the preferred one first. Every route exists in all of them.
func Versions() []string { return []string{"v1", "v1alpha3"} }

// Resources that routes hang on.
const (
	VM           = "virtualmachines"
	VMI          = "virtualmachineinstances"
	ExpandVMSpec = "expand-vm-spec"
)

// Roles is a set of the users' cluster roles.
type Roles uint8

// The users' cluster roles. Migrate is aggregated into none of the others: moving a VM is an administrator's decision.
const (
	Default Roles = 1 << iota
	View
	Edit
	Admin
	Migrate
)

// viewers, editors and Admin are how most routes are granted.
const (
	editors = Edit | Admin
	viewers = View | editors
)

// Scope says where a route hangs.
type Scope int

const (
	// Named routes are subresources of one object: .../namespaces/{namespace}/<resource>/{name}/<subresource>.
	Named Scope = iota
	// Namespaced routes have no object: .../namespaces/{namespace}/<resource>.
	Namespaced
	// Cluster routes have no namespace either: .../<resource>.
	Cluster
)

// Route is one row of the table.
type Route struct {
	Method   string
	Scope    Scope
	Resource string
	// Subresource is everything after the object's name that access is granted on, such as "vnc/screenshot".
	Subresource string
	// Tail are path parameters after the subresource that access does not depend on.
	Tail []string
	// Listed tells whether API discovery shows the route.
	Listed bool
	// Public routes answer without authentication.
	Public bool
	Roles  Roles
	// Handler names what answers.
	Handler Handler
	// Stream routes upgrade to a websocket with the subprotocol plain.kubevirt.io.
	Stream bool
	// Body is the kind of the request body, empty when there is none.
	Body string
	// Success is the code of a successful answer.
	Success int
	Summary string
}

// Verb is the verb of the access review.
func (r Route) Verb() string {
	if r.Method == http.MethodPut {
		return "update"
	}
	if r.Scope == Cluster {
		return "list"
	}
	return "get"
}

// Name is how discovery calls the route.
func (r Route) Name() string {
	if r.Subresource == "" {
		return r.Resource
	}
	return r.Resource + "/" + r.Subresource
}

// Path is the route's path in one version, with parameters in braces as net/http understands them.
func (r Route) Path(version string) string {
	parts := []string{"/apis", Group, version}
	if r.Scope != Cluster {
		parts = append(parts, "namespaces", "{namespace}")
	}
	parts = append(parts, r.Resource)
	if r.Scope == Named {
		parts = append(parts, "{name}", r.Subresource)
	}
	for _, t := range r.Tail {
		parts = append(parts, "{"+t+"}")
	}
	return strings.Join(parts, "/")
}

// Handler names a handler of a route.
type Handler string

// The handlers.
const (
	Start          Handler = "Start"
	Stop           Handler = "Stop"
	Restart        Handler = "Restart"
	MigrateVM      Handler = "Migrate"
	ExpandSpec     Handler = "ExpandSpec"
	ExpandBody     Handler = "ExpandVMSpec"
	VMAddVolume    Handler = "VMAddVolume"
	VMRemoveVolume Handler = "VMRemoveVolume"
	VMCancelEvac   Handler = "VMEvacuateCancel"
	VMPortForward  Handler = "VMPortForward"
	VMGraph        Handler = "VMObjectGraph"
	MemoryDump     Handler = "VMMemoryDump"
	RemoveDump     Handler = "VMRemoveMemoryDump"

	Pause           Handler = "Pause"
	Unpause         Handler = "Unpause"
	Freeze          Handler = "Freeze"
	Unfreeze        Handler = "Unfreeze"
	Reset           Handler = "Reset"
	SoftReboot      Handler = "SoftReboot"
	Console         Handler = "Console"
	VNC             Handler = "VNC"
	Screenshot      Handler = "VNCScreenshot"
	PortForward     Handler = "PortForward"
	GuestOSInfo     Handler = "GuestOSInfo"
	UserList        Handler = "UserList"
	FilesystemList  Handler = "FilesystemList"
	VMIAddVolume    Handler = "VMIAddVolume"
	VMIRemoveVolume Handler = "VMIRemoveVolume"
	VMICancelEvac   Handler = "VMIEvacuateCancel"
	VMIGraph        Handler = "VMIObjectGraph"
	USBRedir        Handler = "USBRedir"
	VSOCK           Handler = "VSOCK"
	SEVCertChain    Handler = "SEVFetchCertChain"
	SEVMeasurement  Handler = "SEVQueryLaunchMeasurement"
	SEVSession      Handler = "SEVSetupSession"
	SEVSecret       Handler = "SEVInjectLaunchSecret"
	Backup          Handler = "Backup"
	Checkpoint      Handler = "RedefineCheckpoint"

	Version Handler = "Version"
	GuestFS Handler = "GuestFS"
	Healthz Handler = "Healthz"
)

// All gives every route, sorted by resource and subresource.
func All() []Route {
	return append(append(clusterRoutes(), vmRoutes()...), vmiRoutes()...)
}

func clusterRoutes() []Route {
	get := func(resource string, h Handler, public bool, summary string) Route {
		return Route{
			Method: http.MethodGet, Scope: Cluster, Resource: resource, Public: public, Roles: Default,
			Handler: h, Success: http.StatusOK, Summary: summary,
		}
	}
	healthz := get("healthz", Healthz, true, "Tells whether virt-api reaches the Kubernetes API.")
	healthz.Roles = 0
	return []Route{
		{
			Method: http.MethodPut, Scope: Namespaced, Resource: ExpandVMSpec, Listed: true, Roles: viewers,
			Handler: ExpandBody, Body: "VirtualMachine", Success: http.StatusOK,
			Summary: "Gives the VM of the request body with its instance type and preference applied.",
		},
		get("guestfs", GuestFS, true, "Tells the image that virtctl guestfs runs."),
		healthz,
		get("version", Version, true, "Tells the version of the platform."),
	}
}

func put(resource, subresource string, h Handler, body string, success int, summary string) Route {
	return Route{
		Method: http.MethodPut, Resource: resource, Subresource: subresource, Listed: true, Roles: editors,
		Handler: h, Body: body, Success: success, Summary: summary,
	}
}

func get(resource, subresource string, h Handler, roles Roles, summary string) Route {
	return Route{
		Method: http.MethodGet, Resource: resource, Subresource: subresource, Listed: true, Roles: roles,
		Handler: h, Success: http.StatusOK, Summary: summary,
	}
}

func stream(r Route) Route {
	r.Stream, r.Success = true, http.StatusSwitchingProtocols
	return r
}

func hidden(r Route) Route {
	r.Listed = false
	return r
}

func tail(r Route, parameters ...string) Route {
	r.Tail = parameters
	return r
}

func vmRoutes() []Route {
	forward := hidden(stream(get(VM, "portforward", VMPortForward, editors,
		"Opens a connection to a port of the VM's guest.")))
	migrate := put(VM, "migrate", MigrateVM, "MigrateOptions", http.StatusAccepted, "Moves the running VM to another node.")
	migrate.Roles = Migrate
	return []Route{
		hidden(put(VM, "addvolume", VMAddVolume, "AddVolumeOptions", http.StatusAccepted,
			"Plugs a volume into the VM, also while it runs.")),
		put(VM, "evacuate/cancel", VMCancelEvac, "EvacuateCancelOptions", http.StatusOK,
			"Takes back the request to move the VM away from its node."),
		get(VM, "expand-spec", ExpandSpec, viewers, "Gives the VM with its instance type and preference applied."),
		withBody(get(VM, "objectgraph", VMGraph, viewers, "Gives the tree of objects that the VM uses."), "ObjectGraphOptions"),
		hidden(put(VM, "memorydump", MemoryDump, "VirtualMachineMemoryDumpRequest", http.StatusAccepted,
			"Writes the guest's memory into a file on a claim.")),
		tail(forward, "port"),
		tail(forward, "port", "protocol"),
		hidden(put(VM, "removememorydump", RemoveDump, "", http.StatusAccepted,
			"Lets go of the claim that memory was written to.")),
		hidden(put(VM, "removevolume", VMRemoveVolume, "RemoveVolumeOptions", http.StatusAccepted,
			"Unplugs a volume from the VM.")),
		put(VM, "restart", Restart, "RestartOptions", http.StatusAccepted, "Stops the VM's instance and starts a new one."),
		put(VM, "start", Start, "StartOptions", http.StatusAccepted, "Starts the VM."),
		put(VM, "stop", Stop, "StopOptions", http.StatusAccepted, "Stops the VM."),
		migrate,
	}
}

func withBody(r Route, body string) Route {
	r.Body = body
	return r
}

func vmiRoutes() []Route {
	forward := stream(get(VMI, "portforward", PortForward, editors, "Opens a connection to a port of the guest."))
	return append([]Route{
		put(VMI, "addvolume", VMIAddVolume, "AddVolumeOptions", http.StatusAccepted,
			"Plugs a volume into the running instance until it stops."),
		stream(get(VMI, "console", Console, editors, "Opens the serial console; ?replay=true begins with the guest's recent output.")),
		put(VMI, "evacuate/cancel", VMICancelEvac, "EvacuateCancelOptions", http.StatusOK,
			"Takes back the request to move the instance away from its node."),
		get(VMI, "filesystemlist", FilesystemList, viewers, "Lists the guest's file systems, as its agent tells."),
		put(VMI, "freeze", Freeze, "FreezeUnfreezeTimeout", http.StatusOK, "Freezes the guest's file systems."),
		get(VMI, "guestosinfo", GuestOSInfo, viewers, "Tells about the guest's operating system, as its agent tells."),
		withBody(get(VMI, "objectgraph", VMIGraph, viewers, "Gives the tree of objects that the instance uses."),
			"ObjectGraphOptions"),
		put(VMI, "pause", Pause, "PauseOptions", http.StatusOK, "Pauses the guest."),
		tail(forward, "port"),
		tail(forward, "port", "protocol"),
		put(VMI, "removevolume", VMIRemoveVolume, "RemoveVolumeOptions", http.StatusAccepted,
			"Unplugs a volume from the running instance."),
		put(VMI, "reset", Reset, "", http.StatusOK, "Resets the guest like a reset button."),
		put(VMI, "softreboot", SoftReboot, "", http.StatusOK, "Asks the guest to reboot."),
		put(VMI, "unfreeze", Unfreeze, "", http.StatusOK, "Thaws the guest's file systems."),
		put(VMI, "unpause", Unpause, "UnpauseOptions", http.StatusOK, "Lets a paused guest run on."),
		get(VMI, "userlist", UserList, viewers, "Lists who is logged in to the guest, as its agent tells."),
		stream(get(VMI, "vnc", VNC, editors, "Opens the graphical console; ?preserveSession=true refuses to drop another viewer.")),
		get(VMI, "vnc/screenshot", Screenshot, Admin, "Gives a picture of the graphical console as PNG."),
	}, rareRoutes()...)
}

// rareRoutes are for devices and hardware that few clusters have.
func rareRoutes() []Route {
	internal := func(r Route) Route {
		r.Roles = 0 // upstream's controllers call it, no user does
		return r
	}
	return []Route{
		internal(put(VMI, "backup", Backup, "BackupOptions", http.StatusOK, "Backs up the guest's disks.")),
		internal(put(VMI, "redefine-checkpoint", Checkpoint, "BackupCheckpoint", http.StatusOK,
			"Tells the guest's disks of an earlier backup.")),
		get(VMI, "sev/fetchcertchain", SEVCertChain, viewers, "Gives the certificates of the node's memory encryption."),
		put(VMI, "sev/injectlaunchsecret", SEVSecret, "SEVSecretOptions", http.StatusOK, "Gives a measured guest its secret."),
		get(VMI, "sev/querylaunchmeasurement", SEVMeasurement, viewers, "Gives the measurement of a guest with encrypted memory."),
		put(VMI, "sev/setupsession", SEVSession, "SEVSessionOptions", http.StatusAccepted,
			"Sets the owner's session of a guest with encrypted memory."),
		hidden(stream(get(VMI, "usbredir", USBRedir, editors, "Passes a USB device of the client to the guest."))),
		// Through its socket a guest's services are open to whoever reaches them: granted by name alone (contract).
		hidden(stream(get(VMI, "vsock", VSOCK, 0, "Opens a connection to a VSOCK port of the guest: ?port=N&tls=true."))),
	}
}
