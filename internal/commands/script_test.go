package commands_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"virtctl/internal/cdi/stream"
	"virtctl/internal/commands"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/commands/testapi"
	"virtctl/internal/images"
)

// TestMain lets the scripts run this test binary as virtctl, so that the whole command line is tested as users call it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"virtctl":      run,
		"kubectl-virt": run,
	})
}

func run() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(commands.Main(ctx, terminal.System(), os.Args))
}

type serverKey struct{}

// TestScripts runs every script against an API server of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"load": load, "fail": fail, "exits": exits, "requests": requests, "object": object,
			"uploads": uploads, "arrived": arrived, "content": content, "sized": sized, "padded": padded, "image": imageFile, "registry": startRegistry,
		},
	})
}

func setup(env *testscript.Env) error {
	server := testapi.New()
	env.Values[serverKey{}] = server
	env.Defer(server.Close)
	config := filepath.Join(env.WorkDir, ".kubeconfig")
	env.Setenv("KUBECONFIG", config)
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("SERVER", server.URL())
	return os.WriteFile(config, []byte(server.Kubeconfig()), 0o600)
}

func server(ts *testscript.TestScript) *testapi.Server {
	return ts.Value(serverKey{}).(*testapi.Server)
}

// load FILE... stores objects in the API server.
func load(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		ts.Check(server(ts).Load(ts.ReadFile(file)))
	}
}

// fail METHOD PATH CODE MESSAGE [TIMES] makes requests fail.
func fail(ts *testscript.TestScript, _ bool, args []string) {
	code, err := strconv.Atoi(args[2])
	ts.Check(err)
	times := 0
	if len(args) > 4 {
		times, err = strconv.Atoi(args[4])
		ts.Check(err)
	}
	server(ts).Fail(args[0], args[1], code, args[3], times)
}

// exits CODE PROGRAM ARG... runs a program and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// requests prints the requests that changed something.
func requests(ts *testscript.TestScript, _ bool, _ []string) {
	_, err := ts.Stdout().Write([]byte(strings.Join(append(slices.Clone(server(ts).Requests()), ""), "\n")))
	ts.Check(err)
}

// object GROUPVERSION RESOURCE NAMESPACE NAME prints a stored object; with ! it must not exist.
func object(ts *testscript.TestScript, absent bool, args []string) {
	found, ok := server(ts).Get(args[0], args[1], args[2], args[3])
	if ok == absent {
		ts.Fatalf("%s exists: %v", strings.Join(args, " "), ok)
	}
	if ok {
		text, err := yaml.Marshal(found)
		ts.Check(err)
		_, err = ts.Stdout().Write(text)
		ts.Check(err)
	}
}

// uploads KEY=VALUE... says what happens to uploads from now on; none is that all goes well.
func uploads(ts *testscript.TestScript, _ bool, args []string) {
	var plan testapi.UploadPlan
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		number, _ := strconv.Atoi(value)
		switch key {
		case "cut":
			plan.CutAt = number
		case "hold":
			plan.HoldAt = number
		case "stuck":
			plan.Stuck = value
		case "fails":
			plan.Fails = value
		case "damaged":
			plan.Damaged = true
		case "direct":
			plan.Direct = value
		case "plain":
			plan.Plain = true
		default:
			ts.Fatalf("no such plan: %s", arg)
		}
	}
	server(ts).PlanUploads(plan)
}

// arrived CLAIM BYTES waits until so much of a claim's content is there.
func arrived(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ts.Check(server(ts).Arrived(ctx, args[0], n))
}

// content CLAIM FILE checks that the disk made of a claim's content is the file's.
func content(ts *testscript.TestScript, _ bool, args []string) {
	got := server(ts).Content(args[0])
	if strings.HasPrefix(string(got), "QFI\xfb") {
		path := filepath.Join(ts.MkAbs("."), "unpacked")
		_, err := stream.Copy(context.Background(), bytes.NewReader(got), path, stream.Options{})
		ts.Check(err)
		got, err = os.ReadFile(path)
		ts.Check(err)
	}
	if string(got) != ts.ReadFile(args[1]) {
		ts.Fatalf("claim %s holds something else than %s", args[0], args[1])
	}
}

// sized FILE BYTES makes a file of that size whose bytes all differ from their neighbours.
func sized(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i*7 + i/251)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o600))
}

// padded FILE BYTES makes a file as sized does, and as many written zeros after it.
func padded(ts *testscript.TestScript, _ bool, args []string) {
	sized(ts, false, args)
	body := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append([]byte(body), make([]byte, len(body))...), 0o600))
}

// image FILE REF makes an image file with one small layer.
func imageFile(ts *testscript.TestScript, _ bool, args []string) {
	layer, err := images.PackLayer(ts.MkAbs("layer"), []images.File{{Path: "hello", Mode: 0o644, Data: []byte("hello")}}, images.Gzip, time.Unix(0, 0))
	ts.Check(err)
	_, err = images.Build(images.Spec{Refs: []string{args[1]}, Layers: []*images.Layer{layer}, Created: time.Unix(0, 0), Output: ts.MkAbs(args[0])})
	ts.Check(err)
}

// registry starts a registry on this machine and sets $REGISTRY.
func startRegistry(ts *testscript.TestScript, _ bool, _ []string) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(server.Close)
	ts.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
}
