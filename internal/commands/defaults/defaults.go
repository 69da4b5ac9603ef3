// Package defaults gives flags the values that the user has set once for all: in VIRTCTL_* variables and in a configuration file.
package defaults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"virtctl/internal/commands/problem"
)

const (
	// prefix begins the names of the variables: VIRTCTL_NAMESPACE, VIRTCTL_CREATE_VM_MEMORY.
	prefix = "VIRTCTL"
	// fileVariable names another configuration file.
	fileVariable = "VIRTCTL_CONFIG"
	// required is cobra's mark on a flag that must be given.
	required = "cobra_annotation_bash_completion_one_required_flag"
)

// Source reads the defaults when they are needed first. Help, completion scripts and the client's version never need them.
type Source struct {
	load func() (*viper.Viper, error)
}

// New makes a source.
func New() *Source { return &Source{load: sync.OnceValues(load)} }

// File is the configuration file's place; explicit is true when a variable names it.
func File() (path string, explicit bool) {
	if path := os.Getenv(fileVariable); path != "" {
		return path, true
	}
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", false
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "virtctl", "config.yaml"), false
}

// load gives nil when there is nothing to read.
func load() (*viper.Viper, error) {
	path, explicit := File()
	_, err := os.Stat(path)
	exists := path != "" && err == nil
	if explicit && !exists {
		return nil, problem.Usagef("the configuration file %s of $%s cannot be read: %w", path, fileVariable, err)
	}
	inEnvironment := slices.ContainsFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, prefix+"_") })
	if !exists && !inEnvironment {
		return nil, nil
	}
	v := viper.New()
	v.SetEnvPrefix(prefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_", "-", "_"))
	v.AutomaticEnv()
	if exists {
		v.SetConfigFile(path)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return nil, problem.Usagef("the configuration file %s cannot be understood: %w", path, err)
		}
	}
	return v, nil
}

// Keys are all keys that the configuration file sets.
func (s *Source) Keys() ([]string, error) {
	v, err := s.load()
	if v == nil || err != nil {
		return nil, err
	}
	return v.AllKeys(), nil
}

// Fill gives the flags that the user has not set their defaults. The command's own key (create.vm.memory) comes before the one
// for every command (memory).
func (s *Source) Fill(flags *pflag.FlagSet, command []string) error {
	v, err := s.load()
	if v == nil || err != nil {
		return err
	}
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || failed != nil || flag.Name == "help" {
			return
		}
		for _, key := range []string{strings.Join(append(slices.Clone(command), flag.Name), "."), flag.Name} {
			if !v.IsSet(key) {
				continue
			}
			if _, isCommand := v.Get(key).(map[string]any); isCommand {
				continue
			}
			failed = set(flag, key, v)
			return
		}
	})
	return failed
}

// set changes the default, so that a flag group or a conflict check does not take it for the user's word on the command line.
func set(flag *pflag.Flag, key string, v *viper.Viper) error {
	var err error
	if many, ok := flag.Value.(pflag.SliceValue); ok {
		err = many.Replace(v.GetStringSlice(key))
	} else {
		err = flag.Value.Set(v.GetString(key))
	}
	if err != nil {
		return problem.Usagef("the default %s=%q for --%s does not fit: %w", key, v.GetString(key), flag.Name, err)
	}
	if _, must := flag.Annotations[required]; must {
		flag.Changed = true
	}
	return nil
}

// Variable is the name of the variable that gives a flag its default.
func Variable(flag string, command ...string) string {
	key := strings.Join(append(slices.Clone(command), flag), "_")
	return fmt.Sprintf("%s_%s", prefix, strings.ToUpper(strings.ReplaceAll(key, "-", "_")))
}
