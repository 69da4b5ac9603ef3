package commands_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"virtctl/internal/commands"
)

// TestGuideCommands fails when the guide shows a command line that the program does not take: a command or a flag that is not there.
func TestGuideCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/guide/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		body, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range shown(string(body)) {
			if err := parse(line); err != nil {
				t.Errorf("%s shows %q: %v", filepath.Base(page), line, err)
			}
		}
	}
}

// shown gives the command lines of the page's blocks.
func shown(page string) map[string]bool {
	lines, block := map[string]bool{}, false
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			block = !block
			continue
		}
		_, command, found := strings.Cut(line, "virtctl ")
		if !block || !found || strings.HasPrefix(line, "#") || strings.ContainsAny(command, "'\"$") || strings.Contains(command, "...") {
			continue
		}
		for _, end := range []string{" > ", " | ", " && ", " #"} {
			command, _, _ = strings.Cut(command, end)
		}
		lines[strings.TrimSpace(command)] = true
	}
	return lines
}

// parse reads a command line as far as flags and arguments go; nothing is run.
func parse(line string) error {
	root := commands.Documented()
	cmd, rest, err := root.Find(strings.Fields(line))
	if err != nil {
		return err
	}
	cmd.InheritedFlags()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return check(cmd)
}

func check(cmd *cobra.Command) error {
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateFlagGroups()
}
