package testapi

import (
	"fmt"
	"net/http"
	"strings"
)

// Buckets of the machines.
const (
	vmBucket        = "kubevirt.io/v1/virtualmachines"
	vmiBucket       = "kubevirt.io/v1/virtualmachineinstances"
	migrationBucket = "kubevirt.io/v1/virtualmachineinstancemigrations"
	podBucket       = "v1/pods"
)

// Annotations of a VM that make its runs go wrong.
const (
	// Stuck runs are never scheduled; the value is the reason.
	Stuck = "test/stuck"
	// Fails runs end at once with phase Failed.
	Fails = "test/fails"
)

// react does what the controllers would do about a new or changed object.
func (s *Server) react(q request, object Object) {
	spec, _ := object["spec"].(Object)
	switch q.bucket {
	case vmBucket:
		strategy := text(spec, "runStrategy")
		if _, runs := s.store.get(vmiBucket, q.namespace, text(metaOf(object), "name")); !runs && (strategy == "Always" || strategy == "Once" || strategy == "RerunOnFailure") {
			s.run(object)
		} else if text(statusOf(object), "printableStatus") == "" {
			s.setVM(object, "Stopped", false)
		}
	case migrationBucket:
		s.migrated(object)
	case dataVolumeBucket, claimBucket:
		s.provide(q, object)
	}
}

func statusOf(object Object) Object {
	status, ok := object["status"].(Object)
	if !ok {
		status = Object{}
		object["status"] = status
	}
	return status
}

func (s *Server) setVM(vm Object, printable string, ready bool) Object {
	status := statusOf(vm)
	status["printableStatus"], status["ready"], status["created"] = printable, ready, ready
	return s.store.put(vmBucket, vm)
}

func condition(kind, status, why, message string) Object {
	return Object{"type": kind, "status": status, "reason": why, "message": message}
}

// run starts a machine and takes it as far as its annotations allow.
func (s *Server) run(vm Object) {
	meta := metaOf(vm)
	annotations, _ := meta["annotations"].(Object)
	template, _ := vm["spec"].(Object)["template"].(Object)
	vm = s.setVM(vm, "Starting", false)
	vmi := Object{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
		"metadata": Object{"name": meta["name"], "namespace": meta["namespace"], "labels": meta["labels"]},
		"spec":     clone(template)["spec"], "status": Object{"phase": "Scheduling"},
	}
	if vmi["spec"] == nil {
		vmi["spec"] = Object{"domain": Object{}}
	}
	vmi = s.store.put(vmiBucket, vmi)
	if why := text(annotations, Stuck); why != "" {
		statusOf(vmi)["conditions"] = []any{condition("PodScheduled", "False", "Unschedulable", why)}
		s.store.put(vmiBucket, vmi)
		s.setVM(vm, "ErrorUnschedulable", false)
		return
	}
	if text(annotations, Fails) != "" {
		statusOf(vmi)["phase"] = "Failed"
		s.store.put(vmiBucket, vmi)
		s.setVM(vm, "Stopped", false)
		return
	}
	status := statusOf(vmi)
	status["phase"], status["nodeName"] = "Running", "node01"
	status["interfaces"] = []any{Object{"name": "default", "ipAddress": "10.0.0.7", "ipAddresses": []any{"10.0.0.7"}}}
	status["conditions"] = []any{condition("Ready", "True", "", ""), condition("AgentConnected", "True", "", "")}
	s.store.put(vmiBucket, vmi)
	statusOf(vm)["conditions"] = []any{condition("Ready", "True", "", "")}
	s.setVM(vm, "Running", true)
}

func (s *Server) halt(vm Object) {
	meta := metaOf(vm)
	s.store.remove(vmiBucket, text(meta, "namespace"), text(meta, "name"))
	statusOf(vm)["conditions"] = []any{condition("Ready", "False", "VMINotExists", "VMI does not exist")}
	s.setVM(vm, "Stopped", false)
}

func (s *Server) delete(q request, object Object) {
	if q.bucket == vmBucket {
		s.store.remove(vmiBucket, q.namespace, q.name)
		for _, name := range dataVolumes(object) {
			for _, bucket := range []string{dataVolumeBucket, claimBucket} {
				if volume, ok := s.store.get(bucket, q.namespace, name); ok && ownedBy(volume, object) {
					s.store.remove(bucket, q.namespace, name)
				}
			}
		}
	}
	if q.bucket == dataVolumeBucket {
		s.store.remove(claimBucket, q.namespace, q.name)
	}
	s.store.remove(q.bucket, q.namespace, q.name)
}

func ownedBy(object, owner Object) bool {
	references, _ := metaOf(object)["ownerReferences"].([]any)
	for _, r := range references {
		if reference, ok := r.(Object); ok && text(reference, "uid") == text(metaOf(owner), "uid") {
			return true
		}
	}
	return false
}

func dataVolumes(vm Object) []string {
	spec, _ := vm["spec"].(Object)
	templates, _ := spec["dataVolumeTemplates"].([]any)
	var names []string
	for _, t := range templates {
		if object, ok := t.(Object); ok {
			names = append(names, text(metaOf(object), "name"))
		}
	}
	return names
}

// migrated lets a migration succeed.
func (s *Server) migrated(migration Object) {
	meta := metaOf(migration)
	name := text(migration["spec"].(Object), "vmiName")
	statusOf(migration)["phase"] = "Succeeded"
	s.store.put(migrationBucket, migration)
	if vmi, ok := s.store.get(vmiBucket, text(meta, "namespace"), name); ok {
		statusOf(vmi)["nodeName"] = "node02"
		s.store.put(vmiBucket, vmi)
	}
}

// podLog answers with the log that the pod's annotation holds.
func (s *Server) podLog(w http.ResponseWriter, q request) {
	pod, ok := s.store.get(podBucket, q.namespace, q.name)
	if !ok {
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", q.name), Object{"name": q.name, "kind": "pods"})
		return
	}
	annotations, _ := metaOf(pod)["annotations"].(Object)
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(strings.TrimLeft(text(annotations, "test/log"), "\n")))
}
