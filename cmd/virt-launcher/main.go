// Command virt-launcher runs one virtual machine inside its pod. It is started without arguments by the pod's manifest.
package main

import (
	"context"
	"os"

	"virtctl/internal/libvirt/launcher/app"
)

func main() {
	os.Exit(app.Run(context.Background(), app.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
}
