package factory

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
	// Identity providers that a kubeconfig may name besides exec plugins.
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"

	"virtctl/internal/commands/defaults"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
)

// Connection holds the flags that choose cluster, user and namespace: kubectl's own names.
//
// It uses clientcmd directly: genericclioptions.ConfigFlags would bring kustomize and the whole resource builder into the binary.
type Connection struct {
	streams   *terminal.Streams
	loading   *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	verbosity int
	flags     *pflag.FlagSet
	config    func() (clientcmd.ClientConfig, error)
}

func newConnection(streams *terminal.Streams, source *defaults.Source) *Connection {
	c := &Connection{streams: streams, loading: &clientcmd.ClientConfigLoadingRules{}}
	c.config = sync.OnceValues(func() (clientcmd.ClientConfig, error) {
		if err := source.Fill(c.flags, nil); err != nil {
			return nil, err
		}
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = c.loading.ExplicitPath
		return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &c.overrides), nil
	})
	return c
}

// Bind adds the flags.
func (c *Connection) Bind(flags *pflag.FlagSet) {
	own := pflag.NewFlagSet("connection", pflag.ContinueOnError)
	own.StringVar(&c.loading.ExplicitPath, "kubeconfig", "", "Path to the kubeconfig file; default $KUBECONFIG, else ~/.kube/config")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	clientcmd.BindOverrideFlags(&c.overrides, own, names)
	own.IntVarP(&c.verbosity, "v", "v", 0, "Verbosity of the log on stderr; 6 shows every request to the API server, 8 its headers too")
	flags.AddFlagSet(own)
	c.flags = own
}

// Args are the command-line arguments that make another invocation of this program reach the same cluster as the same user.
// The target's namespace is not among them: it is part of the target's own name there.
func (c *Connection) Args() []string {
	var args []string
	c.flags.VisitAll(func(flag *pflag.Flag) {
		if !flag.Changed || flag.Name == "namespace" {
			return
		}
		values := []string{flag.Value.String()}
		if many, ok := flag.Value.(pflag.SliceValue); ok {
			values = many.GetSlice()
		}
		for _, value := range values {
			args = append(args, fmt.Sprintf("--%s=%s", flag.Name, value))
		}
	})
	return args
}

// Context names the kubeconfig context in use, or "" if there is none.
func (c *Connection) Context() string {
	config, err := c.config()
	if err != nil {
		return ""
	}
	if c.overrides.CurrentContext != "" {
		return c.overrides.CurrentContext
	}
	raw, err := config.RawConfig()
	if err != nil {
		return ""
	}
	return raw.CurrentContext
}

// Contexts names the contexts of the kubeconfig.
func (c *Connection) Contexts() []string {
	config, err := c.config()
	if err != nil {
		return nil
	}
	raw, err := config.RawConfig()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(raw.Contexts))
}

func (c *Connection) namespace() (namespace string, explicit bool, err error) {
	config, err := c.config()
	if err != nil {
		return "", false, err
	}
	namespace, explicit, err = config.Namespace()
	if err != nil {
		return "", false, configError(err)
	}
	return namespace, explicit, nil
}

func (c *Connection) restConfig() (*rest.Config, error) {
	source, err := c.config()
	if err != nil {
		return nil, err
	}
	config, err := source.ClientConfig()
	if err != nil {
		return nil, configError(err)
	}
	if c.verbosity >= 6 {
		config.Wrap(transport.WrapperFunc(c.trace))
	}
	return config, nil
}

func configError(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return problem.ErrNoCluster
	}
	return fmt.Errorf("read the kubeconfig: %w", err)
}

// trace prints each request with its answer and duration.
func (c *Connection) trace(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		start := time.Now()
		resp, err := next.RoundTrip(req)
		answer := "no answer"
		if resp != nil {
			answer = resp.Status
		}
		c.streams.Say("%s %s: %s in %s\n", req.Method, req.URL, answer, time.Since(start).Round(time.Millisecond))
		if c.verbosity >= 8 {
			for name, values := range req.Header {
				if name != "Authorization" {
					c.streams.Say("  > %s: %s\n", name, values)
				}
			}
			if resp != nil {
				for name, values := range resp.Header {
					c.streams.Say("  < %s: %s\n", name, values)
				}
			}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
