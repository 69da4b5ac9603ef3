package testapi

import "encoding/json"

// memoryDump ends a dump at once: one to a claim called "full" fails.
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
	request := Object{"claimName": wanted.ClaimName, "phase": "Completed", "fileName": c.name + ".memory.dump"}
	if wanted.ClaimName == "full" {
		request["phase"], request["message"] = "Failed", "no space left on device"
	}
	status["memoryDumpRequest"] = request
	s.store.put(vmBucket, c.vm)
	return true
}
