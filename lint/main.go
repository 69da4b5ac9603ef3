// Command lint is the part of golangci.yml that every run of the tests checks: errorlint and the import rules. It compiles in seconds and
// reads what the compiler has left in its cache about everything that is imported; the whole set takes minutes on a cold machine.
//
//	lint [-C DIR] [-tags TAGS] PACKAGE...
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"codeberg.org/polyfloyd/go-errorlint/errorlint"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"
)

//go:embed golangci.yml
var config []byte

// errFound says that findings were printed.
var errFound = errors.New("see above; make lint-all finds more")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		_, _ = io.WriteString(os.Stderr, fmt.Sprintf("lint: %v\n", err))
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	flags := flag.NewFlagSet("lint", flag.ContinueOnError)
	dir := flags.String("C", ".", "module's `directory`")
	tags := flags.String("tags", "", "build `tags`, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	imports, err := importRules(config)
	if err != nil {
		return err
	}
	pkgs, err := packages.Load(&packages.Config{
		// Only the named packages are read from their source.
		Mode:    packages.LoadSyntax | packages.NeedModule,
		Context: ctx, Dir: *dir, Tests: true, BuildFlags: []string{"-tags=" + *tags},
	}, flags.Args()...)
	if err != nil {
		return fmt.Errorf("loading packages: %w", err)
	}
	if packages.PrintErrors(pkgs) > 0 || len(pkgs) == 0 {
		return fmt.Errorf("%d packages, and not all of them compile: see go vet", len(pkgs))
	}
	return report(out, pkgs, []*analysis.Analyzer{imports, errorlint.NewAnalyzer()})
}

// report prints what the analyzers find. A file is in two packages when there are tests beside it: what is found twice is printed once.
func report(out io.Writer, pkgs []*packages.Package, analyzers []*analysis.Analyzer) error {
	graph, err := checker.Analyze(analyzers, pkgs, nil)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, action := range graph.Roots {
		if action.Err != nil {
			return fmt.Errorf("%s of %s: %w", action.Analyzer.Name, action.Package.ID, action.Err)
		}
		for _, d := range action.Diagnostics {
			line := fmt.Sprintf("%s: %s (%s)", action.Package.Fset.Position(d.Pos), d.Message, action.Analyzer.Name)
			if seen[line] {
				continue
			}
			seen[line] = true
			if _, err := fmt.Fprintln(out, line); err != nil {
				return err
			}
		}
	}
	if len(seen) > 0 {
		return errFound
	}
	return nil
}
