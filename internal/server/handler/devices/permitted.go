package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Offer is a resource whose devices belong to one pod at a time.
type Offer struct {
	Resource string
	// Variable is what tells the container which devices it was given.
	Variable string
	Units    []Unit
}

// Unit is what a pod is given at once: a device, or a set of devices.
type Unit struct {
	ID string
	// Values name the devices in the container's variable.
	Values []string
	// Nodes are the device nodes by which the devices are used.
	Nodes []string
	// NUMA is the memory node that they are near to, -1 if that is not known.
	NUMA int
}

// Permitted offers the node's own devices to the kubelet, as far as the administrator permits it. What is permitted and what there is may
// change at any time.
type Permitted struct {
	// Dir is the kubelet's directory of device plugins.
	Dir string
	// Find looks for devices.
	Find func() ([]Offer, error)
	// Again tells that Find may find something else now.
	Again <-chan struct{}
	// Nodes are directories in which device nodes come and go.
	Nodes []string
	Log   logr.Logger

	serving map[string]*serving
}

type serving struct {
	plugin *unitPlugin
	stop   func()
}

// Start serves until ctx ends. It belongs to every replica of a manager.
func (p *Permitted) Start(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("start watching files: %w; raise fs.inotify.max_user_instances", err)
	}
	defer notify.Close()
	if err := notify.Add(p.Dir); err != nil {
		return fmt.Errorf("watch the kubelet's device plugin directory %s: %w; check --kubelet-dir", p.Dir, err)
	}
	for _, dir := range p.Nodes {
		if err := notify.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	defer p.stopAll()
	kubelet := filepath.Join(p.Dir, filepath.Base(v1beta1.KubeletSocket))
	registered, err := os.Stat(kubelet)
	if err == nil {
		p.offer(ctx, kubelet)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.Again:
		case event, ok := <-notify.Events:
			if !ok {
				return errors.New("watching files ended")
			}
			if filepath.Dir(event.Name) == filepath.Clean(p.Dir) {
				if event.Name != kubelet || !event.Has(fsnotify.Create) || sameFile(registered, kubelet) {
					continue
				}
				// The kubelet removes all plugins' sockets when it starts.
				p.stopAll()
				if registered, err = os.Stat(kubelet); err != nil {
					continue
				}
			}
		case err, ok := <-notify.Errors:
			if !ok {
				return errors.New("watching files ended")
			}
			p.Log.Error(err, "watching the node's devices")
		}
		p.offer(ctx, kubelet)
	}
}

// offer brings what is served to what there is.
func (p *Permitted) offer(ctx context.Context, kubelet string) {
	found, err := p.Find()
	if err != nil {
		p.Log.Error(err, "cannot look for permitted devices")
		return
	}
	if p.serving == nil {
		p.serving = map[string]*serving{}
	}
	keep := map[string]bool{}
	for _, o := range found {
		keep[o.Resource] = true
		if s, ok := p.serving[o.Resource]; ok {
			s.plugin.become(o)
			continue
		}
		if err := p.add(ctx, kubelet, o); err != nil {
			p.Log.Error(err, "cannot offer devices to the kubelet", "resource", o.Resource)
		}
	}
	for resource, s := range p.serving {
		if !keep[resource] {
			s.stop()
			delete(p.serving, resource)
		}
	}
}

func (p *Permitted) add(ctx context.Context, kubelet string, o Offer) error {
	plugin := newUnitPlugin(o)
	endpoint := "kubevirt-" + strings.NewReplacer("/", "_", ".", "_").Replace(o.Resource) + ".sock"
	stop, err := serveSocket(ctx, filepath.Join(p.Dir, endpoint), plugin, p.Log)
	if err != nil {
		return err
	}
	if err := register(ctx, kubelet, endpoint, o.Resource); err != nil {
		stop()
		return err
	}
	p.serving[o.Resource] = &serving{plugin: plugin, stop: func() { plugin.end(); stop() }}
	p.Log.Info("permitted devices are offered", "resource", o.Resource, "devices", len(o.Units))
	return nil
}

func (p *Permitted) stopAll() {
	for resource, s := range p.serving {
		s.stop()
		delete(p.serving, resource)
	}
}
