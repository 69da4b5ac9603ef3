// Package component runs the upstream programs that are linked into virt-kube, as they are. One process runs one of them.
package component

import (
	"context"
	"fmt"
	"os"

	"github.com/coredns/coredns/coremain"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Main is a program's main function; args starts with the program's name. It returns the exit code.
type Main func(args []string) int

// Find returns the program of a name.
func Find(name string) (Main, bool) {
	main, ok := map[string]Main{
		"etcd": func(args []string) int {
			etcdmain.Main(args)
			return 0
		},
		"coredns": func(args []string) int {
			os.Args = args // its flags are the process's
			coremain.Run()
			return 0
		},
		"containerd":              containerdMain,
		"ctr":                     ctrMain,
		"kubectl":                 kubectlMain,
		"kube-apiserver":          kubernetes(apiserver.NewAPIServerCommand),
		"kube-controller-manager": kubernetes(manager.NewControllerManagerCommand),
		"kube-scheduler":          kubernetes(newScheduler),
		"kube-proxy":              kubernetes(proxy.NewProxyCommand),
		"kubelet":                 kubernetes(newKubelet),
	}[name]
	return main, ok
}

// kubernetes wraps a component's command; its constructor reads os.Args in places.
func kubernetes(newCommand func() *command) Main {
	return func(args []string) int {
		os.Args = args
		return cli.Run(newCommand())
	}
}

func newScheduler() *command { return scheduler.NewSchedulerCommand() }

func newKubelet() *command { return kubelet.NewKubeletCommand(context.Background()) }

func fail(name string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}
