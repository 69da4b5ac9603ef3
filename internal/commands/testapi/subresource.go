package testapi

import (
	"encoding/json"
	"net/http"
	"strings"
)

// call is one request to a subresource of a machine.
type call struct {
	w        http.ResponseWriter
	r        *http.Request
	body     []byte
	resource string
	ns, name string
	vm, vmi  Object
}

// dryRun tells whether the caller's options ask for no change.
func (c *call) dryRun() bool {
	options := struct{ DryRun []string }{}
	return json.Unmarshal(c.body, &options) == nil && len(options.DryRun) > 0
}

func (c *call) running() bool { return c.vmi != nil && text(statusOf(c.vmi), "phase") == "Running" }

func (c *call) paused() bool {
	conditions, _ := statusOf(c.vmi)["conditions"].([]any)
	for _, one := range conditions {
		if object, ok := one.(Object); ok && text(object, "type") == "Paused" {
			return true
		}
	}
	return false
}

func (c *call) conflict(message string) {
	refuse(c.w, http.StatusConflict, "Conflict", "Operation cannot be fulfilled on "+c.resource+".kubevirt.io \""+c.name+"\": "+message,
		Object{"name": c.name, "kind": c.resource})
}

func (s *Server) subresource(w http.ResponseWriter, r *http.Request, body []byte) {
	rest := strings.TrimPrefix(r.URL.Path, "/apis/subresources.kubevirt.io/v1/")
	switch {
	case rest == "version":
		answer(w, http.StatusOK, Object{"gitVersion": "v1.9.0+virtctl.0.1.0", "gitCommit": "server", "goVersion": "go1.26"})
		return
	case strings.HasSuffix(rest, "/expand-vm-spec"):
		vm := Object{}
		_ = json.Unmarshal(body, &vm)
		answer(w, http.StatusOK, vm)
		return
	}
	parts := strings.SplitN(rest, "/", 5)
	if len(parts) < 5 || parts[0] != "namespaces" {
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", nil)
		return
	}
	c := &call{w: w, r: r, body: body, ns: parts[1], resource: parts[2], name: parts[3]}
	c.vm, _ = s.store.get(vmBucket, c.ns, c.name)
	c.vmi, _ = s.store.get(vmiBucket, c.ns, c.name)
	missing := c.vm == nil
	if c.resource == "virtualmachineinstances" {
		missing = c.vmi == nil
	}
	if missing {
		refuse(w, http.StatusNotFound, "NotFound", strings.TrimSuffix(c.resource, "s")+".kubevirt.io \""+c.name+"\" not found",
			Object{"name": c.name, "group": "kubevirt.io", "kind": c.resource})
		return
	}
	if s.stream(c, parts[4]) {
		return
	}
	if c.resource == "virtualmachines" {
		s.vmCall(c, parts[4])
		return
	}
	s.vmiCall(c, parts[4])
}

func (s *Server) vmCall(c *call, verb string) {
	alive := c.vmi != nil && text(statusOf(c.vmi), "phase") != "Failed" && text(statusOf(c.vmi), "phase") != "Succeeded"
	spec := c.vm["spec"].(Object)
	switch verb {
	case "start":
		if alive {
			c.conflict("VM is already running")
			return
		}
		if !c.dryRun() {
			if text(spec, "runStrategy") == "Halted" {
				spec["runStrategy"] = "Always"
			}
			s.store.remove(vmiBucket, c.ns, c.name)
			s.run(c.vm)
		}
	case "stop":
		if !alive {
			c.conflict("VM is not running")
			return
		}
		if !c.dryRun() {
			spec["runStrategy"] = "Halted"
			s.halt(c.vm)
		}
	case "restart":
		if !alive {
			c.conflict("VM is not running: Halted")
			return
		}
		if !c.dryRun() {
			s.store.remove(vmiBucket, c.ns, c.name)
			s.run(c.vm)
		}
	case "migrate":
		if !c.running() {
			c.conflict("VM is not running")
			return
		}
		if !c.dryRun() {
			migration := Object{
				"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
				"metadata": Object{"name": "kubevirt-migrate-vm-00001", "namespace": c.ns}, "spec": Object{"vmiName": c.name},
			}
			s.migrated(s.store.put(migrationBucket, migration))
		}
	case "expand-spec":
		answer(c.w, http.StatusOK, c.vm)
		return
	case "objectgraph":
		s.graph(c)
		return
	case "memorydump", "removememorydump":
		if !s.memoryDump(c, verb) {
			return
		}
	case "addvolume", "removevolume", "evacuate/cancel":
	default:
		refuse(c.w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", nil)
		return
	}
	c.w.WriteHeader(http.StatusAccepted)
}

func (s *Server) vmiCall(c *call, verb string) {
	if !c.running() {
		c.conflict("VMI is not running")
		return
	}
	switch verb {
	case "pause":
		if c.paused() {
			c.conflict("VMI is already paused")
			return
		}
		s.setPaused(c, true)
	case "unpause":
		if !c.paused() {
			c.conflict("VMI is not paused")
			return
		}
		s.setPaused(c, false)
	case "guestosinfo":
		answer(c.w, http.StatusOK, Object{"guestAgentVersion": "8.2", "hostname": c.name, "os": Object{"prettyName": "Debian GNU/Linux 12"}})
		return
	case "userlist":
		answer(c.w, http.StatusOK, Object{"items": []any{Object{"userName": "root", "loginTime": 1700000000.5}}})
		return
	case "filesystemlist":
		answer(c.w, http.StatusOK, Object{"items": []any{Object{
			"diskName": "vda1", "mountPoint": "/", "fileSystemType": "ext4", "usedBytes": 1 << 30, "totalBytes": 4 << 30,
		}}})
		return
	case "vnc/screenshot":
		c.w.Header().Set("Content-Type", "image/png")
		_, _ = c.w.Write([]byte("\x89PNG\r\n\x1a\npicture"))
		return
	case "reset", "softreboot":
		s.reboot(c)
	case "objectgraph":
		s.graph(c)
		return
	case "freeze", "unfreeze", "addvolume", "removevolume", "evacuate/cancel":
	default:
		refuse(c.w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", nil)
		return
	}
	c.w.WriteHeader(http.StatusOK)
}

func (s *Server) setPaused(c *call, paused bool) {
	if c.dryRun() {
		return
	}
	conditions := []any{condition("Ready", "True", "", "")}
	if paused {
		conditions = append(conditions, condition("Paused", "True", "PausedByUser", "VMI was paused by user"))
	}
	statusOf(c.vmi)["conditions"] = conditions
	s.store.put(vmiBucket, c.vmi)
}
