package main

import (
	"fmt"
	"os"

	"virtctl/embedded/internal/component"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: virt-kube COMMAND")
		os.Exit(2)
	}
	os.Exit(component.Run(os.Args[1], os.Args[1:]))
}
