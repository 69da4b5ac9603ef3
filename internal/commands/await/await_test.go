package await_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/testapi"
)

type object = testapi.Object

func vm(strategy, status string) object {
	return object{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": object{"name": "web", "namespace": "ns"},
		"spec": object{"runStrategy": strategy}, "status": object{"printableStatus": status},
	}
}

func vmi(uid, phase string, conditions ...any) object {
	return object{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": object{"name": "web", "namespace": "ns", "uid": uid},
		"spec": object{"domain": object{}}, "status": object{"phase": phase, "conditions": conditions},
	}
}

func begin(t *testing.T) (*testapi.Server, *client.Client) {
	t.Helper()
	server := testapi.New()
	t.Cleanup(server.Close)
	c, err := client.New(&rest.Config{Host: server.URL(), BearerToken: "secret-token", TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	return server, c
}

// What happens while a command waits is seen, in the order in which it happens, and nothing is asked for twice.
func TestSeesWhatHappens(t *testing.T) {
	server, c := begin(t)
	server.Put(vm("Always", "Starting"))
	steps := []object{
		vmi("run", "Scheduling"), vm("Always", "Provisioning"),
		vmi("run", "Running"), // the VM's own status follows a moment later
		vm("Always", "Running"),
	}
	var seen []string
	w := &await.Waiter{Client: c, Report: func(_ client.Target, text string) {
		seen = append(seen, text)
		if len(steps) == 4 {
			for _, step := range steps {
				server.Put(step)
			}
			steps = nil
		}
	}}
	state, err := w.For(t.Context(), client.VM("ns", "web"), await.Running())
	if err != nil || state.VMI == nil || state.VMI.UID != "run" {
		t.Fatalf("ended with %+v, %v", state.VMI, err)
	}
	// The two watches know nothing of each other: the VM may be seen running before its run is.
	if text := strings.Join(seen, ", "); !strings.HasPrefix(text, "Starting, Provisioning") {
		t.Errorf("saw %s", text)
	}
}

func TestGoals(t *testing.T) {
	paused := object{"type": "Paused", "status": "True"}
	ready := object{"type": "Ready", "status": "True"}
	notReady := vm("Always", "Starting")
	notReady["status"].(object)["conditions"] = []any{object{"type": "Ready", "status": "False"}}
	for name, test := range map[string]struct {
		objects []object
		goal    await.Goal
		code    problem.Code
	}{
		"running":                      {[]object{vm("Always", "Running"), vmi("a", "Running")}, await.Running(), problem.OK},
		"VMI without VM":               {[]object{vmi("a", "Running")}, await.Running(), problem.OK},
		"only stale status":            {[]object{vm("Always", "Starting"), vmi("a", "Running")}, await.Running(), problem.Timeout},
		"failed for good":              {[]object{vm("Manual", "Stopped"), vmi("a", "Failed")}, await.Running(), problem.Hopeless},
		"failed, starts again":         {[]object{vm("Always", "Starting"), vmi("a", "Failed")}, await.Running(), problem.Timeout},
		"rerun after failure":          {[]object{vm("RerunOnFailure", "Starting"), vmi("a", "Failed")}, await.Running(), problem.Timeout},
		"no rerun after success":       {[]object{vm("RerunOnFailure", "Stopped"), vmi("a", "Succeeded")}, await.Running(), problem.Hopeless},
		"another run":                  {[]object{vm("Always", "Running"), vmi("b", "Running")}, await.RunningAnew("a"), problem.OK},
		"the same run":                 {[]object{vm("Always", "Running"), vmi("a", "Running")}, await.RunningAnew("a"), problem.Timeout},
		"ready":                        {[]object{vmi("a", "Running", ready)}, await.Ready(), problem.OK},
		"its VM does not show it yet":  {[]object{vmi("a", "Running", ready), notReady}, await.Ready(), problem.Timeout},
		"not ready":                    {[]object{vmi("a", "Running")}, await.Ready(), problem.Timeout},
		"paused":                       {[]object{vmi("a", "Running", paused)}, await.Paused(), problem.OK},
		"not unpaused":                 {[]object{vmi("a", "Running", paused)}, await.Unpaused(), problem.Timeout},
		"unpaused":                     {[]object{vmi("a", "Running")}, await.Unpaused(), problem.OK},
		"condition of another case":    {[]object{vmi("a", "Running", ready)}, await.Condition("ready", "True"), problem.OK},
		"absent condition is false":    {[]object{vmi("a", "Running")}, await.Condition("Paused", "False"), problem.OK},
		"stopped":                      {[]object{vm("Halted", "Stopped")}, await.Stopped(), problem.OK},
		"stopping":                     {[]object{vm("Halted", "Stopping")}, await.Stopped(), problem.Timeout},
		"run still there when halted":  {[]object{vm("Halted", "Stopped"), vmi("a", "Failed")}, await.Stopped(), problem.Timeout},
		"run is kept":                  {[]object{vm("Manual", "Stopped"), vmi("a", "Succeeded")}, await.Stopped(), problem.OK},
		"no address":                   {[]object{vmi("a", "Running")}, await.HasIP(), problem.Timeout},
		"deleted":                      {nil, await.Deleted(), problem.OK},
		"not deleted":                  {[]object{vm("Halted", "Stopped")}, await.Deleted(), problem.Timeout},
		"what is not there cannot run": {nil, await.Running(), problem.NotFound},
		"what is not there is no stop": {nil, await.Stopped(), problem.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, c := begin(t)
			for _, o := range test.objects {
				server.Put(o)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if test.code == problem.Timeout {
				// The first look at the state is all there is to judge by: time is over right after it.
				judge, looked := test.goal.Judge, make(chan struct{}, 1)
				test.goal.Judge = func(s await.State) (await.Verdict, string) {
					select {
					case looked <- struct{}{}:
						cancel()
					default:
					}
					return judge(s)
				}
			}
			defer cancel()
			_, err := (&await.Waiter{Client: c}).For(ctx, client.VM("ns", "web"), test.goal)
			code := problem.CodeOf(err)
			if test.code == problem.Timeout && code == problem.Interrupted {
				code = problem.Timeout
			}
			if code != test.code {
				t.Errorf("ended with %v (%d), not %d", err, code, test.code)
			}
		})
	}
}

// Who had no time to look does not claim to know.
func TestNothingSeen(t *testing.T) {
	server, c := begin(t)
	server.Put(vm("Halted", "Stopped"))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := (&await.Waiter{Client: c}).For(ctx, client.Target{Namespace: "ns", Name: "web"}, await.Running())
	if problem.CodeOf(err) != problem.Timeout || !strings.Contains(err.Error(), "the API server did not tell in time what") {
		t.Error(err)
	}
}
