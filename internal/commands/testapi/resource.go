package testapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// kinds maps what is stored to its plural; the kind is what an object says.
func kinds() map[string]string {
	return map[string]string{
		"VirtualMachine": "virtualmachines", "VirtualMachineInstance": "virtualmachineinstances",
		"VirtualMachineInstanceMigration": "virtualmachineinstancemigrations", "VirtualMachineInstanceReplicaSet": "virtualmachineinstancereplicasets",
		"KubeVirt": "kubevirts", "Pod": "pods", "Event": "events", "Node": "nodes", "Namespace": "namespaces", "Service": "services",
		"PersistentVolumeClaim": "persistentvolumeclaims", "Secret": "secrets", "DataVolume": "datavolumes",
		"DataSource": "datasources", "DataImportCron": "dataimportcrons", "StorageProfile": "storageprofiles", "CDIConfig": "cdiconfigs",
		"StorageClass": "storageclasses", "UploadTokenRequest": "uploadtokenrequests",
		"VirtualMachineInstancetype": "virtualmachineinstancetypes", "VirtualMachineClusterInstancetype": "virtualmachineclusterinstancetypes",
		"VirtualMachinePreference": "virtualmachinepreferences", "VirtualMachineClusterPreference": "virtualmachineclusterpreferences",
	}
}

func clusterWide(resource string) bool {
	switch resource {
	case "nodes", "namespaces", "storageprofiles", "cdiconfigs", "storageclasses":
		return true
	}
	return strings.HasPrefix(resource, "virtualmachinecluster")
}

func bucketOf(object Object) string {
	return text(object, "apiVersion") + "/" + kinds()[text(object, "kind")]
}

// request is a parsed path of a stored resource.
type request struct {
	bucket, resource, group, namespace, name, sub string
}

// parse understands /api/v1/... and /apis/GROUP/VERSION/....
func parse(path string) (request, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var q request
	version := ""
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		q.group, version, parts = parts[1], parts[2], parts[3:]
	default:
		return q, false
	}
	if len(parts) >= 3 && parts[0] == "namespaces" {
		q.namespace, parts = parts[1], parts[2:]
	}
	q.resource = parts[0]
	if len(parts) > 1 {
		q.name = parts[1]
	}
	if len(parts) > 2 {
		q.sub = strings.Join(parts[2:], "/")
	}
	groupVersion := version
	if q.group != "" {
		groupVersion = q.group + "/" + version
	}
	q.bucket = groupVersion + "/" + q.resource
	for _, plural := range kinds() {
		if plural == q.resource {
			return q, true
		}
	}
	return q, false
}

func (s *Server) resource(w http.ResponseWriter, r *http.Request, body []byte) {
	q, known := parse(r.URL.Path)
	if !known {
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource", nil)
		return
	}
	if q.resource == "pods" && q.sub == "log" {
		s.podLog(w, q)
		return
	}
	dryRun := r.URL.Query().Get("dryRun") != ""
	switch {
	case r.Method == http.MethodGet && q.name == "":
		s.listOrWatch(w, r, q)
	case r.Method == http.MethodPost:
		s.create(w, q, body, dryRun)
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml":
		s.apply(w, q, body, dryRun)
	default:
		s.one(w, r, q, body)
	}
}

func (s *Server) listOrWatch(w http.ResponseWriter, r *http.Request, q request) {
	query := r.URL.Query()
	choose := selection{q.bucket, q.namespace, query.Get("labelSelector"), query.Get("fieldSelector")}
	if query.Get("watch") != "true" {
		items, version := s.store.list(choose)
		answer(w, http.StatusOK, Object{
			"kind": "List", "apiVersion": "v1", "metadata": Object{"resourceVersion": strconv.Itoa(version)}, "items": items,
		})
		return
	}
	after, err := strconv.Atoi(query.Get("resourceVersion"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", "watch without resourceVersion", nil)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	ctx := r.Context()
	go func() {
		<-ctx.Done()
		s.store.wake()
	}()
	encoder := json.NewEncoder(w)
	for {
		c, ok := s.store.next(choose, after, func() bool { return ctx.Err() != nil })
		if !ok || encoder.Encode(Object{"type": c.kind, "object": c.object}) != nil {
			return
		}
		_ = flush.Flush()
		after = c.version
	}
}

func (s *Server) create(w http.ResponseWriter, q request, body []byte, dryRun bool) {
	object := Object{}
	if err := json.Unmarshal(body, &object); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	meta := metaOf(object)
	if !clusterWide(q.resource) {
		meta["namespace"] = q.namespace
	}
	if generate := text(meta, "generateName"); generate != "" && text(meta, "name") == "" {
		meta["name"] = generate + "00001"
	}
	if q.resource == "uploadtokenrequests" {
		s.token(w, object)
		return
	}
	if _, exists := s.store.get(q.bucket, q.namespace, text(meta, "name")); exists {
		refuse(w, http.StatusConflict, "AlreadyExists", q.resource+" \""+text(meta, "name")+"\" already exists", Object{"name": meta["name"], "kind": q.resource})
		return
	}
	if !dryRun {
		object = s.store.put(q.bucket, object)
		s.react(q, object)
	}
	answer(w, http.StatusCreated, object)
}

func (s *Server) apply(w http.ResponseWriter, q request, body []byte, dryRun bool) {
	object := Object{}
	if err := yaml.Unmarshal(body, &object); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	metaOf(object)["namespace"] = q.namespace
	if before, exists := s.store.get(q.bucket, q.namespace, q.name); exists {
		merged, err := merge(before, body)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, "Invalid", err.Error(), nil)
			return
		}
		object = merged
		metaOf(object)["namespace"] = q.namespace
	}
	if !dryRun {
		object = s.store.put(q.bucket, object)
		s.react(q, object)
	}
	answer(w, http.StatusOK, object)
}

func (s *Server) one(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	object, exists := s.store.get(q.bucket, q.namespace, q.name)
	if !exists {
		name := q.resource
		if q.group != "" {
			name += "." + q.group
		}
		refuse(w, http.StatusNotFound, "NotFound", name+" \""+q.name+"\" not found", Object{"name": q.name, "group": q.group, "kind": q.resource})
		return
	}
	switch r.Method {
	case http.MethodGet:
	case http.MethodDelete:
		options := struct{ DryRun []string }{}
		_ = json.Unmarshal(body, &options)
		if len(options.DryRun) == 0 {
			s.delete(q, object)
		}
	case http.MethodPut:
		object = Object{}
		if err := json.Unmarshal(body, &object); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
			return
		}
		object = s.store.put(q.bucket, object)
	case http.MethodPatch:
		patched, err := patch(object, r.Header.Get("Content-Type"), body)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, "Invalid", err.Error(), nil)
			return
		}
		object = s.store.put(q.bucket, patched)
		if q.bucket == claimBucket {
			s.provide(q, object)
		}
	}
	answer(w, http.StatusOK, object)
}

func patch(object Object, kind string, body []byte) (Object, error) {
	if kind != "application/json-patch+json" {
		return merge(object, body)
	}
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	steps, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, err
	}
	after, err := steps.Apply(before)
	if err != nil {
		return nil, err
	}
	patched := Object{}
	return patched, json.Unmarshal(after, &patched)
}

func merge(object Object, body []byte) (Object, error) {
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	change, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, err
	}
	after, err := jsonpatch.MergePatch(before, change)
	if err != nil {
		return nil, err
	}
	merged := Object{}
	return merged, json.Unmarshal(after, &merged)
}
