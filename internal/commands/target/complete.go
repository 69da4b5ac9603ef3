package target

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
)

// completionTime bounds how long a shell is kept waiting for names.
const completionTime = 2 * time.Second

// Complete offers the names of the machines in the namespace.
func Complete(f *factory.Factory, kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return Names(cmd.Context(), f, kind, typed, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// CompleteOne offers names for a command that takes one.
func CompleteOne(f *factory.Factory, kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return Names(cmd.Context(), f, kind, typed, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// Names gives the names that begin as typed and are not among those given already; KIND/ before the name is understood.
func Names(ctx context.Context, f *factory.Factory, kind, typed string, taken []string) []cobra.Completion {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	prefix := ""
	if word, rest, found := strings.Cut(typed, "/"); found {
		named, ok := KindOf(word)
		if !ok {
			return nil
		}
		kind, prefix, typed = named, word+"/", rest
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return nil
	}
	c, err := f.Client()
	if err != nil {
		return nil
	}
	found, err := list(ctx, c, Target{kind, namespace}, "")
	if err != nil {
		return nil
	}
	return offer(found, prefix, typed, taken)
}

func offer(found []client.Target, prefix, typed string, taken []string) []cobra.Completion {
	var names []cobra.Completion
	for _, t := range found {
		if strings.HasPrefix(t.Name, typed) && !slices.Contains(taken, prefix+t.Name) {
			names = append(names, prefix+t.Name)
		}
	}
	return names
}

// CompleteNodes offers the names of the cluster's nodes.
func CompleteNodes(f *factory.Factory) cobra.CompletionFunc {
	return completeWith(f, func(ctx context.Context, c *client.Client) []string {
		return namesOf(ctx, c.Nodes(), func(n corev1.Node) string { return n.Name })
	})
}

// CompleteNamespaces offers the names of the cluster's namespaces.
func CompleteNamespaces(f *factory.Factory) cobra.CompletionFunc {
	return completeWith(f, func(ctx context.Context, c *client.Client) []string {
		return namesOf(ctx, c.Namespaces(), func(n corev1.Namespace) string { return n.Name })
	})
}

// CompleteClaims offers the names of the namespace's volumes.
func CompleteClaims(f *factory.Factory) cobra.CompletionFunc {
	return completeWith(f, func(ctx context.Context, c *client.Client) []string {
		namespace, _, err := f.Namespace()
		if err != nil {
			return nil
		}
		return namesOf(ctx, c.Claims(namespace), func(p corev1.PersistentVolumeClaim) string { return p.Name })
	})
}

func completeWith(f *factory.Factory, names func(context.Context, *client.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		c, err := f.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found := slices.DeleteFunc(names(ctx, c), func(name string) bool { return !strings.HasPrefix(name, typed) })
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func namesOf[T any](ctx context.Context, r client.Resource[T], name func(T) string) []string {
	list, err := r.List(ctx, client.ListOptions{})
	if err != nil {
		return nil
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, name(item))
	}
	return names
}
