package testapi

import (
	"net/http"
	"time"
)

// reboot makes a guest's agent go and come back, if it has one.
func (s *Server) reboot(c *call) {
	agent := func(status string) {
		vmi, ok := s.store.get(vmiBucket, c.ns, c.name)
		if !ok {
			return
		}
		connected := condition("AgentConnected", status, "", "")
		connected["lastTransitionTime"] = time.Unix(number(metaOf(vmi)["generation"])+int64(len(s.Requests())), 0).UTC().Format(time.RFC3339)
		statusOf(vmi)["conditions"] = []any{condition("Ready", "True", "", ""), connected}
		s.store.put(vmiBucket, vmi)
	}
	agent("False")
	agent("True")
}

// graph answers with the machine and its launcher pod.
func (s *Server) graph(c *call) {
	kind := map[string]string{"virtualmachines": "VirtualMachine", "virtualmachineinstances": "VirtualMachineInstance"}[c.resource]
	answer(c.w, http.StatusOK, Object{
		"objectReference": Object{"kind": kind, "name": c.name, "namespace": c.ns},
		"children": []any{
			Object{"objectReference": Object{"kind": "Pod", "name": "virt-launcher-" + c.name, "namespace": c.ns}, "optional": true},
		},
	})
}
