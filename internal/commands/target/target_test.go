package target_test

import (
	"slices"
	"strings"
	"testing"

	"virtctl/internal/client"
	"virtctl/internal/commands/target"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []client.Target
		fail string
	}{
		{[]string{"web"}, []client.Target{client.VM("default", "web")}, ""},
		{[]string{"vm"}, []client.Target{client.VM("default", "vm")}, ""},
		{[]string{"vmi", "web", "db"}, []client.Target{client.VMI("default", "web"), client.VMI("default", "db")}, ""},
		{[]string{"vms", "web", "web"}, []client.Target{client.VM("default", "web")}, ""},
		{[]string{"vmi/web/team", "db"}, []client.Target{client.VMI("team", "web"), client.VM("default", "db")}, ""},
		{[]string{"virtualmachine.kubevirt.io/web"}, []client.Target{client.VM("default", "web")}, ""},
		{[]string{"pod/web"}, nil, "unsupported resource type"},
		{[]string{"vm/"}, nil, "is not a name"},
		{[]string{"vm/a/b/c"}, nil, "is not a name"},
		{[]string{"vm/a/"}, nil, "is not a name"},
	} {
		got, err := target.Parse(target.VM, "default", test.args)
		if test.fail != "" {
			if err == nil || !strings.Contains(err.Error(), test.fail) {
				t.Errorf("%v: %v", test.args, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, %v; want %v", test.args, got, err, test.want)
		}
	}
}

// FuzzParseOne checks that a name that is taken has no slash in it, so that it cannot leave its place in an address.
func FuzzParseOne(f *testing.F) {
	for _, seed := range []string{"web", "vm/web", "vmi/web/ns", "/", "vm//", "a/b", "../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := target.ParseOne(target.VM, "default", text)
		if err == nil && (got.Name == "" || strings.Contains(got.Name+got.Namespace, "/")) {
			t.Errorf("%q was read as %+v", text, got)
		}
	})
}
