package review

import (
	"testing"

	"virtctl/internal/server/api/admission"
)

// A policy with nonsense in it would make every migration under it fail.
func TestMigrationPolicies(t *testing.T) {
	const head = `{"apiVersion":"migrations.kubevirt.io/v1alpha1","kind":"MigrationPolicy","metadata":{"name":"p"},"spec":`
	for _, c := range []struct {
		spec, field string
	}{
		{`{"selectors":{},"allowPostCopy":true,"bandwidthPerMigration":"64Mi","completionTimeoutPerGiB":0}`, ""},
		{`{"selectors":{"virtualMachineInstanceSelector":{"a":"b"}}}`, ""},
		{`{}`, "spec.selectors"},
		{`{"selectors":{},"completionTimeoutPerGiB":-1}`, "spec.completionTimeoutPerGiB"},
		{`{"selectors":{},"bandwidthPerMigration":"-1Mi"}`, "spec.bandwidthPerMigration"},
	} {
		answer := ask(t, testServer(t), admission.ValidateMigrationPolicy, createRequest([]byte(head+c.spec+"}"), "alice"))
		switch {
		case answer.Allowed != (c.field == ""):
			t.Errorf("%s: %+v", c.spec, answer.Result)
		case !answer.Allowed && answer.Result.Details.Causes[0].Field != c.field:
			t.Errorf("%s: causes %+v", c.spec, answer.Result.Details.Causes)
		}
	}
}
