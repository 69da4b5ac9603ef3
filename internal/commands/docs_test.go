package commands_test

import (
	"os"
	"testing"

	"github.com/spf13/cobra"

	"virtctl/internal/commands"
	"virtctl/internal/commands/docgen"
)

// TestGeneratedFiles fails when the reference or a completion describes other commands than there are.
func TestGeneratedFiles(t *testing.T) {
	const root = "../.."
	files, err := docgen.Files(commands.Documented())
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE") != "" {
		if err := docgen.Write(root, files); err != nil {
			t.Fatal(err)
		}
	}
	stale, err := docgen.Stale(root, files)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("not up to date: %v; run go run ./cmd/virtctl/gen", stale)
	}
}

// TestEveryCommandIsDocumented keeps commands from being added without a word about what they do, and how.
func TestEveryCommandIsDocumented(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no description", cmd.CommandPath())
		}
		if cmd.Runnable() && !cmd.HasSubCommands() && cmd.Example == "" && cmd.Name() != "options" && cmd.Parent().Name() != "completion" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(commands.Documented())
}
