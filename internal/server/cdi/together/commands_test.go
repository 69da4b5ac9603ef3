package together

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"

	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/server/cdi/apiserver"
	"virtctl/internal/server/cdi/controller"
	"virtctl/internal/server/cdi/operator"
	"virtctl/internal/server/cdi/uploadproxy"
)

// What is installed must start: each Deployment's command line is one its role understands, and what the role reads by default is
// where the Deployment mounts it.
func TestDeploymentsFitTheirRoles(t *testing.T) {
	o := components.Options{Namespace: "kubevirt", Registry: "r", Tag: "t", PullPolicy: "Always", Verbosity: 4}
	roles := map[string]*cobra.Command{}
	for _, c := range []*cobra.Command{apiserver.Command(), controller.Command(), operator.Command(), uploadproxy.Command()} {
		roles[c.Name()] = c
	}
	for _, d := range append([]*appsv1.Deployment{components.Operator(o)}, components.Workloads(o)...) {
		c := d.Spec.Template.Spec.Containers[0]
		role := roles[c.Command[1]]
		if role == nil {
			t.Errorf("%s runs %v, which is no role", d.Name, c.Command)
			continue
		}
		if err := role.ParseFlags(c.Args); err != nil {
			t.Errorf("%s: %v: %v", d.Name, c.Args, err)
		}
		role.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.HasPrefix(f.DefValue, "/") {
				return
			}
			for _, m := range c.VolumeMounts {
				if f.Value.String() == m.MountPath || strings.HasPrefix(f.Value.String(), m.MountPath+"/") {
					return
				}
			}
			t.Errorf("%s: --%s=%s is not mounted", d.Name, f.Name, f.Value)
		})
	}
}
