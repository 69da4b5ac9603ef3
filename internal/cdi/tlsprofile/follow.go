package tlsprofile

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// Source is the profile of CDI's configuration as it is now.
type Source struct {
	Client client.WithWatch
	Log    *slog.Logger

	current atomic.Pointer[Profile]
}

// Get gives the profile; before the configuration is known, the one of a configuration that says nothing.
func (s *Source) Get() Profile {
	if p := s.current.Load(); p != nil {
		return *p
	}
	return Of(nil)
}

// Waits between tries when the configuration cannot be watched.
const (
	firstWait = time.Second
	lastWait  = time.Minute
)

// Run follows the configuration until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	wait := firstWait
	for ctx.Err() == nil {
		err := s.follow(ctx)
		if err == nil {
			wait = firstWait
			continue
		}
		s.Log.Info("cannot follow the CDIConfig; its TLS profile stays as it was", "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
			wait = min(2*wait, lastWait)
		}
	}
	return nil
}

func (s *Source) follow(ctx context.Context) error {
	events, err := s.Client.Watch(ctx, &cdiv1.CDIConfigList{}, client.MatchingFieldsSelector{
		Selector: fields.OneTermEqualSelector("metadata.name", names.CDIConfig),
	})
	if err != nil {
		return err
	}
	defer events.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-events.ResultChan():
			if !open {
				return nil
			}
			if event.Type == watch.Error {
				return fmt.Errorf("watch the CDIConfig: %v", event.Object)
			}
			if config, ok := event.Object.(*cdiv1.CDIConfig); ok && config.Name == names.CDIConfig {
				p := Of(config.Spec.TLSSecurityProfile)
				s.current.Store(&p)
			}
		}
	}
}
