package routes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// golden compares with a file; UPDATE=1 writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with UPDATE=1", err)
	}
	if string(want) != string(got) {
		t.Errorf("%s is not up to date; look at the difference with UPDATE=1 and git diff\n%s", path, got)
	}
}

// Clients find subresources by these names; one that goes breaks kubectl's short names and upstream's client.
func TestDiscoveryKeepsTheContract(t *testing.T) {
	want := strings.Fields(`expand-vm-spec
		virtualmachineinstances/vnc virtualmachineinstances/vnc/screenshot virtualmachineinstances/console
		virtualmachineinstances/portforward virtualmachineinstances/pause virtualmachineinstances/unpause
		virtualmachineinstances/freeze virtualmachineinstances/unfreeze virtualmachineinstances/reset
		virtualmachineinstances/softreboot virtualmachineinstances/guestosinfo virtualmachineinstances/userlist
		virtualmachineinstances/filesystemlist virtualmachineinstances/addvolume virtualmachineinstances/removevolume
		virtualmachineinstances/objectgraph virtualmachineinstances/evacuate/cancel
		virtualmachineinstances/backup virtualmachineinstances/redefine-checkpoint
		virtualmachineinstances/sev/fetchcertchain virtualmachineinstances/sev/querylaunchmeasurement
		virtualmachineinstances/sev/setupsession virtualmachineinstances/sev/injectlaunchsecret
		virtualmachines/start virtualmachines/stop virtualmachines/restart virtualmachines/migrate virtualmachines/expand-spec
		virtualmachines/objectgraph virtualmachines/evacuate/cancel`)
	for _, v := range Versions() {
		list := ResourceList(v)
		var got []string
		for _, r := range list.APIResources {
			got = append(got, r.Name)
			if !r.Namespaced {
				t.Errorf("%s: %s is not namespaced", v, r.Name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v\nwant %v", v, got, want)
		}
		if list.GroupVersion != "subresources.kubevirt.io/"+v {
			t.Errorf("group version %q", list.GroupVersion)
		}
	}
}

// A role that grants less than before locks users out, one that grants more lets them in.
func TestClusterRoles(t *testing.T) {
	roles, err := yaml.Marshal(ClusterRoles())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/clusterroles.yaml", roles)
}

// What the public contract says in words, checked against what is generated.
func TestRolesKeepTheContract(t *testing.T) {
	granted := func(role, verb, resource string) bool {
		for _, rule := range ClusterRoles()["kubevirt.io:"+role] {
			if slices.Contains(rule.Verbs, verb) && slices.Contains(rule.Resources, resource) {
				return true
			}
		}
		return false
	}
	for _, tc := range []struct {
		verb, resource, roles string
	}{
		{"get", VMI + "/console", "edit admin"},
		{"get", VMI + "/vnc", "edit admin"},
		{"get", VMI + "/vnc/screenshot", "admin"},
		{"get", VMI + "/guestosinfo", "view edit admin"},
		{"get", VM + "/portforward", "edit admin"},
		{"get", VM + "/expand-spec", "view edit admin"},
		{"update", ExpandVMSpec, "view edit admin"},
		{"update", VM + "/start", "edit admin"},
		{"update", VM + "/migrate", "migrate"},
		{"update", VMI + "/evacuate/cancel", "edit admin"},
		{"update", VMI + "/evacuate", "edit admin"},
		{"update", VMI + "/softreboot", "edit admin"},
		{"list", "version", "default"},
		{"get", "guestfs", "default"},
	} {
		for _, role := range []string{"default", "view", "edit", "admin", "migrate"} {
			want := slices.Contains(strings.Fields(tc.roles), role)
			if got := granted(role, tc.verb, tc.resource); got != want {
				t.Errorf("%s %s by %s: %v, want %v", tc.verb, tc.resource, role, got, want)
			}
		}
	}
}

// Merging a document with two equal operation ids makes the Kubernetes API server drop or rename operations.
func TestOpenAPIOperationsAreUnique(t *testing.T) {
	for name, document := range map[string]any{"v2": OpenAPIv2("x"), "v3 v1": OpenAPIv3("v1", "x"), "v3 v1alpha3": OpenAPIv3("v1alpha3", "x")} {
		raw, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		parsed := struct {
			Paths map[string]map[string]struct {
				OperationID string         `json:"operationId"`
				Responses   map[string]any `json:"responses"`
			} `json:"paths"`
		}{}
		if err := json.Unmarshal(raw, &parsed); err != nil {
			t.Fatal(err)
		}
		if len(parsed.Paths) < len(All())/2 {
			t.Errorf("%s has only %d paths", name, len(parsed.Paths))
		}
		seen := map[string]string{}
		for path, item := range parsed.Paths {
			for method, operation := range item {
				if other, twice := seen[operation.OperationID]; twice {
					t.Errorf("%s: %s %s and %s have the same id %s", name, method, path, other, operation.OperationID)
				}
				seen[operation.OperationID] = path
				if len(operation.Responses) == 0 {
					t.Errorf("%s: %s %s has no responses", name, method, path)
				}
			}
		}
	}
}

func TestReference(t *testing.T) {
	golden(t, "../../../../docs/reference/subresources.md", []byte(Reference()))
}

// Two routes with one method and path would make the server panic at start.
func TestRoutesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range All() {
		key := r.Method + " " + r.Path("v1")
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if r.Handler == "" || r.Summary == "" || r.Success == 0 {
			t.Errorf("%s lacks a handler, a summary or a code", key)
		}
		// Backups are for controllers, which have roles of their own; sockets into guests are granted by name alone.
		granted := r.Public || r.Roles != 0 || slices.Contains([]Handler{Backup, Checkpoint, VSOCK}, r.Handler)
		if !granted {
			t.Errorf("%s is granted to nobody", key)
		}
	}
}
