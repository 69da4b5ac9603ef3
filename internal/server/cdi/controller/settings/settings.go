// Package settings is what the cluster's administrator decided for CDI: the one CDIConfig and the CDI resource, with the
// contract's defaults.
package settings

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// Gates.
const (
	// GateHonorWait leaves claims unbound until somebody uses them.
	GateHonorWait = "HonorWaitForFirstConsumer"
	// GateClaimAdoption lets a DataVolume take over a claim of its name.
	GateClaimAdoption = "DataVolumeClaimAdoption"
)

// DefaultOverhead is the part of a file system that is not for the disk image.
const DefaultOverhead = "0.06"

// Certificates of upload servers, unless the CDI resource says otherwise.
const (
	defaultCertDuration = 15 * 24 * time.Hour
	defaultRenewBefore  = defaultCertDuration / 2
)

// Source reads the settings anew for each use: they are in the cache.
type Source struct {
	Reader client.Reader
	// Image and PullPolicy are the worker's.
	Image      string
	PullPolicy corev1.PullPolicy
}

// Current are the settings at one moment.
type Current struct {
	Config cdi.CDIConfig
	CDI    cdi.CDI
	source *Source
}

// Load reads the settings. A cluster without a CDIConfig has the defaults.
func (s *Source) Load(ctx context.Context) (*Current, error) {
	c := &Current{source: s}
	if err := s.Reader.Get(ctx, client.ObjectKey{Name: names.CDIConfig}, &c.Config); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read CDIConfig %s: %w", names.CDIConfig, err)
	}
	var list cdi.CDIList
	if err := s.Reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list CDI resources: %w", err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			c.CDI = list.Items[i]
			break
		}
	}
	return c, nil
}

// Gate tells whether a feature is on.
func (c *Current) Gate(name string) bool { return slices.Contains(c.Config.Spec.FeatureGates, name) }

// Preallocation is whether space is taken in advance when a DataVolume does not say.
func (c *Current) Preallocation(asked *bool) bool {
	if asked != nil {
		return *asked
	}
	return c.Config.Status.Preallocation || c.Config.Spec.Preallocation != nil && *c.Config.Spec.Preallocation
}

// Overhead is the part of a file system of this class that is not for the disk image.
func (c *Current) Overhead(class string) string {
	for _, o := range []*cdi.FilesystemOverhead{c.Config.Status.FilesystemOverhead, c.Config.Spec.FilesystemOverhead} {
		if o == nil {
			continue
		}
		if value := o.StorageClass[class]; value != "" {
			return string(value)
		}
		if o.Global != "" {
			return string(o.Global)
		}
	}
	return DefaultOverhead
}

// ScratchClass is the class of scratch claims, or the claim's own.
func (c *Current) ScratchClass(claim *corev1.PersistentVolumeClaim) *string {
	if class := c.Config.Status.ScratchSpaceStorageClass; class != "" {
		return &class
	}
	return claim.Spec.StorageClassName
}

// Worker is what all workers for claims of this class have in common.
func (c *Current) Worker(class string) *workerpod.Settings {
	s := &workerpod.Settings{
		Image: c.source.Image, PullPolicy: c.source.PullPolicy, Resources: workerpod.DefaultResources(),
		Pull: c.Config.Status.ImagePullSecrets, Placement: c.CDI.Spec.Workloads, Overhead: c.Overhead(class),
		InsecureRegistries: c.Config.Spec.InsecureRegistries, TLS: tlsOf(c.Config.Spec.TLSSecurityProfile),
	}
	if len(s.Pull) == 0 {
		s.Pull = c.Config.Spec.ImagePullSecrets
	}
	if r := c.Config.Spec.PodResourceRequirements; r != nil {
		s.Resources = *r
	}
	if c.CDI.Spec.ImagePullPolicy != "" {
		s.PullPolicy = c.CDI.Spec.ImagePullPolicy
	}
	proxy := c.Config.Status.ImportProxy
	if proxy == nil {
		proxy = c.Config.Spec.ImportProxy
	}
	if proxy != nil {
		s.Proxy = workerpod.Proxy{HTTP: text(proxy.HTTPProxy), HTTPS: text(proxy.HTTPSProxy), No: text(proxy.NoProxy)}
	}
	return s
}

// ProxyBundle is the ConfigMap in the install namespace with the proxy's authority, or nothing.
func (c *Current) ProxyBundle() string {
	for _, proxy := range []*cdi.ImportProxy{c.Config.Status.ImportProxy, c.Config.Spec.ImportProxy} {
		if proxy != nil && text(proxy.TrustedCAProxy) != "" {
			return *proxy.TrustedCAProxy
		}
	}
	return ""
}

// Certificate is how long an upload server's certificate lives and how long before its end it is renewed.
func (c *Current) Certificate() (duration, renewBefore time.Duration) {
	duration, renewBefore = defaultCertDuration, defaultRenewBefore
	if config := c.CDI.Spec.CertConfig; config != nil && config.Server != nil && config.Server.Duration != nil {
		duration = config.Server.Duration.Duration
		renewBefore = duration / 2
		if config.Server.RenewBefore != nil && config.Server.RenewBefore.Duration < duration {
			renewBefore = config.Server.RenewBefore.Duration
		}
	}
	return duration, renewBefore
}

func tlsOf(p *cdi.TLSSecurityProfile) workerpod.TLS {
	if p == nil {
		return workerpod.TLS{}
	}
	spec := cdi.TLSProfiles[p.Type]
	if p.Type == cdi.TLSProfileCustomType && p.Custom != nil {
		spec = &p.Custom.TLSProfileSpec
	}
	if spec == nil {
		return workerpod.TLS{}
	}
	return workerpod.TLS{Ciphers: strings.Join(spec.Ciphers, ","), MinVersion: string(spec.MinTLSVersion)}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
