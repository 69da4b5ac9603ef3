// Command gen writes docs/reference and completions from the tree of commands. Run it in the repository's root.
package main

import (
	"fmt"
	"os"

	"virtctl/internal/commands"
	"virtctl/internal/commands/docgen"
)

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write() error {
	files, err := docgen.Files(commands.Documented())
	if err != nil {
		return err
	}
	return docgen.Write(".", files)
}
