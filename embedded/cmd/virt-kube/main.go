// Command virt-kube is a whole Kubernetes in one program.
package main

import (
	"os"

	"virtctl/embedded/internal/command"
)

func main() { os.Exit(command.Main(os.Args)) }
