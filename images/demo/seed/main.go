// Command seed runs once at the demo guest's start: it reads the instance data that the cluster attached as a disk (NoCloud or
// OpenStack's config drive) and applies the part of cloud-config that is worth having in a guest of a few MiB.
//
//	seed DIR [ROOT]
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: seed DIR [ROOT]")
		os.Exit(2)
	}
	root := "/"
	if len(os.Args) > 2 {
		root = os.Args[2]
	}
	data, err := readInstance(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "seed:", err)
		os.Exit(1)
	}
	// What can be applied is applied: a typing error in one part should not cost the login.
	plan, problems := data.plan()
	problems = append(problems, guest{root}.apply(plan)...)
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "seed:", p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}
