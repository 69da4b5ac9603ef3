package component

import (
	"os"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // exec and OIDC credentials in the user's own kubeconfig
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

type command = cobra.Command

func kubectlMain(args []string) int {
	os.Args = args
	// A malformed level is met again, and reported, when the flags are parsed.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints it and exits with the right code
		return 1
	}
	return 0
}
