package cdi

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// table is one table of the contract's text: its cells, row by row, without the head.
func table(t *testing.T, number string) []string {
	t.Helper()
	raw, err := os.ReadFile("testdata/seed-tables.txt")
	if err != nil {
		t.Fatal(err)
	}
	// The text has no-break spaces.
	text := strings.ReplaceAll(string(raw), "\u00a0", " ")
	_, rest, found := strings.Cut(text, "Table "+number+".")
	if !found {
		t.Fatalf("no table %s", number)
	}
	rest, _, _ = strings.Cut(rest, "\nTable ")
	rest, _, _ = strings.Cut(rest, "\n1.2.3.2.")
	var cells []string
	for _, line := range strings.Split(rest, "\n")[1:] {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, "ResourcesVerbs") {
			cells = append(cells, line)
		}
	}
	return cells
}

func words(cell string) []string {
	var out []string
	for _, w := range strings.Split(cell, ",") {
		out = append(out, strings.TrimSpace(strings.TrimSuffix(w, "(all)")))
	}
	return out
}

// grants spells rules out, one line for each verb on each resource.
func grants(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		allowed := append([]string{}, r.ResourceNames...)
		sort.Strings(allowed)
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					out = append(out, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", group, resource, verb, strings.Join(allowed, ","))))
				}
			}
		}
	}
	sort.Strings(out)
	return out
}

// byGroup reads tables 1.3 to 1.6.
func byGroup(t *testing.T, number string) []rbacv1.PolicyRule {
	t.Helper()
	cells := table(t, number)
	var out []rbacv1.PolicyRule
	for len(cells) > 0 {
		if len(cells) < 3 {
			t.Fatalf("table %s ends in %q", number, cells)
		}
		r := rbacv1.PolicyRule{APIGroups: []string{strings.TrimSuffix(cells[0], " (core)")}, Resources: words(cells[1])}
		if r.APIGroups[0] == `""` {
			r.APIGroups[0] = ""
		}
		cells = cells[2:]
		if only, ok := strings.CutPrefix(cells[0], "Allow list:"); ok {
			r.ResourceNames, cells = words(only), cells[1:]
		}
		r.Verbs, cells = words(cells[0]), cells[1:]
		out = append(out, r)
	}
	return out
}

// byRole reads table 1.2, which leaves the groups out.
func byRole(t *testing.T) map[string][]rbacv1.PolicyRule {
	t.Helper()
	out, role := map[string][]rbacv1.PolicyRule{}, ""
	cells := table(t, "1.2")
	for len(cells) > 0 {
		if strings.HasPrefix(cells[0], "cdi.kubevirt.io:") {
			role, cells = cells[0], cells[1:]
			continue
		}
		for _, resource := range words(cells[0]) {
			group := "cdi.kubevirt.io"
			if resource == "uploadtokenrequests" {
				group = "upload.cdi.kubevirt.io"
			}
			out[role] = append(out[role], rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: words(cells[1])})
		}
		cells = cells[2:]
	}
	return out
}

func rendered(t *testing.T, objects []runtime.Object, kind, name string) []rbacv1.PolicyRule {
	t.Helper()
	for _, obj := range objects {
		switch role := obj.(type) {
		case *rbacv1.ClusterRole:
			if kind == "ClusterRole" && role.Name == name {
				return role.Rules
			}
		case *rbacv1.Role:
			if kind == "Role" && role.Name == name {
				return role.Rules
			}
		}
	}
	t.Fatalf("no %s %s is rendered", kind, name)
	return nil
}

func same(t *testing.T, what string, want, got []rbacv1.PolicyRule) {
	t.Helper()
	expected, actual := grants(want), grants(got)
	if len(expected) == 0 {
		t.Fatalf("%s: the text has no rule", what)
	}
	have, should := map[string]bool{}, map[string]bool{}
	for _, g := range actual {
		have[g] = true
	}
	for _, g := range expected {
		should[g] = true
		if !have[g] {
			t.Errorf("%s does not grant %q", what, g)
		}
	}
	for _, g := range actual {
		if !should[g] {
			t.Errorf("%s grants %q, which the table does not", what, g)
		}
	}
}

// Verb by verb: an administrator who read the tables knows exactly what CDI and its users may do; what goes beyond them is in
// roles with names of our own.
func TestRolesAreTheTables(t *testing.T) {
	all := append(Static(options), Bootstrap(options)...)
	roles := byRole(t)
	if len(roles) != 4 {
		t.Fatalf("table 1.2 has the roles %v", roles)
	}
	for name, want := range roles {
		same(t, name, want, rendered(t, all, "ClusterRole", name))
	}
	for _, c := range []struct{ table, kind, name string }{
		{"1.3", "ClusterRole", "cdi-operator-cluster"},
		{"1.4", "ClusterRole", "cdi"},
		{"1.5", "Role", "cdi-operator"},
		{"1.6", "Role", "cdi-deployment"},
	} {
		same(t, "table "+c.table+", "+c.kind+" "+c.name, byGroup(t, c.table), rendered(t, all, c.kind, c.name))
	}
}

// The comparison must be able to fail.
func TestTablesAreRead(t *testing.T) {
	for number, want := range map[string]int{"1.3": 9, "1.4": 16, "1.5": 7, "1.6": 7} {
		if got := len(byGroup(t, number)); got != want {
			t.Errorf("table %s has %d rows, want %d", number, got, want)
		}
	}
	found := false
	for _, g := range grants(byGroup(t, "1.3")) {
		found = found || g == "admissionregistration.k8s.io/mutatingwebhookconfigurations delete cdi-api-datavolume-mutate"
	}
	if !found {
		t.Errorf("the allow list was not read: %v", grants(byGroup(t, "1.3")))
	}
}
