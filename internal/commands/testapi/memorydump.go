package testapi

import (
	"encoding/json"
	"time"
)

// dumpTime is how long a dump takes.
const dumpTime = 100 * time.Millisecond

// memoryDump ends a dump after a moment: one to a claim called "full" fails.
func (s *Server) memoryDump(c *call, verb string) bool {
	status := statusOf(c.vm)
	known, _ := status["memoryDumpRequest"].(Object)
	if verb == "removememorydump" {
		if known == nil {
			c.conflict("no memory dump request found")
			return false
		}
		delete(status, "memoryDumpRequest")
		s.store.put(vmBucket, c.vm)
		return true
	}
	if !c.running() {
		c.conflict("VMI is not running")
		return false
	}
	wanted := struct{ ClaimName string }{}
	_ = json.Unmarshal(c.body, &wanted)
	if wanted.ClaimName == "" {
		wanted.ClaimName = text(known, "claimName")
	}
	s.setDump(c.vm, Object{"claimName": wanted.ClaimName, "phase": "InProgress"})
	end := Object{"claimName": wanted.ClaimName, "phase": "Completed", "fileName": c.name + ".memory.dump"}
	if wanted.ClaimName == "full" {
		end["phase"], end["message"] = "Failed", "no space left on device"
	}
	time.AfterFunc(dumpTime, func() {
		if vm, ok := s.store.get(vmBucket, c.ns, c.name); ok {
			s.setDump(vm, end)
		}
	})
	return true
}

func (s *Server) setDump(vm, request Object) {
	statusOf(vm)["memoryDumpRequest"] = request
	s.store.put(vmBucket, vm)
}
