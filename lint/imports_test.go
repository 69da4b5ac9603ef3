package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
)

// Without these rules a command pulls the server's libraries into the CLI, and a role knows another's inside, unnoticed.
func TestImportRules(t *testing.T) {
	for _, test := range []struct {
		file, imports, denied string
	}{
		{"internal/commands/start/start.go", "virtctl/internal/server/api", "through its API only"},
		{"internal/commands/start/start.go", "sigs.k8s.io/controller-runtime/pkg/client", "stays small"},
		{"internal/commands/start/start.go", "virtctl/internal/client", ""},
		{"internal/libvirt/launcher/run.go", "k8s.io/apimachinery/pkg/types", "domains and not Kubernetes"},
		{"internal/libvirt/domain/convert.go", "libvirt.org/go/libvirt", "only internal/libvirt/session uses cgo"},
		{"internal/libvirt/domain/convert.go", "libvirt.org/go/libvirtxml", ""},
		{"internal/libvirt/session/session.go", "libvirt.org/go/libvirt", ""},
		{"internal/server/controller/vm/reconcile.go", "virtctl/internal/server/handler/vmi", "never imports another role"},
		{"internal/server/operator/operator.go", "virtctl/internal/server/api/routes", ""},
		{"internal/server/cdi/apiserver/review/clone.go", "virtctl/internal/server/cdi/controller/claim", "never imports another role"},
		{"internal/server/cdi/controller/claim/claim.go", "virtctl/internal/server/cdi/uploadproxy", "never imports another role"},
		{"internal/server/cdi/operator/operator.go", "virtctl/internal/server/operator", "never imports another role"},
		{"internal/server/cdi/uploadproxy/proxy.go", "virtctl/internal/server/cdi/apiserver", "never imports another role"},
		{"internal/server/writer/writer.go", "virtctl/internal/server/controller/vm", "belongs to none of them"},
		{"internal/cdi/worker/upload.go", "k8s.io/client-go/rest", "knows no cluster"},
	} {
		t.Run(test.file+" "+test.imports, func(t *testing.T) {
			found := check(t, "/src/"+test.file, test.imports)
			if test.denied == "" && found != "" {
				t.Errorf("refused: %s", found)
			}
			if !strings.Contains(found, test.denied) {
				t.Errorf("found %q, want %q", found, test.denied)
			}
		})
	}
}

func TestRulesThatCheckNothing(t *testing.T) {
	for name, text := range map[string]string{
		"no rules": "linters: {}",
		"no files": "linters: {settings: {depguard: {rules: {a: {deny: [{pkg: b}]}}}}}",
		"no deny":  "linters: {settings: {depguard: {rules: {a: {files: [b]}}}}}",
		"no YAML":  "linters: [",
	} {
		if _, err := importRules([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// check tells what the rules find in a file of this name with this import.
func check(t *testing.T, file, imports string) string {
	t.Helper()
	analyzer, err := importRules(config)
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, fmt.Sprintf("package p\n\nimport _ %q\n", imports), 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	pass := &analysis.Pass{
		Analyzer: analyzer, Fset: files, Files: []*ast.File{parsed},
		Report: func(d analysis.Diagnostic) { found = append(found, d.Message) },
	}
	if _, err := analyzer.Run(pass); err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, "\n")
}
