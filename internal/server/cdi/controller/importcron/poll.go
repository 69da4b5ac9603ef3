package importcron

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// poll asks the source for its digest when that is due: at once for a new DataImportCron, then on its schedule.
func (r *Reconciler) poll(ctx context.Context, p *pass) error {
	if p.cron.Spec.Schedule == "" {
		return nil // no schedule: somebody else writes the digest
	}
	schedule, err := cron.ParseStandard(p.cron.Spec.Schedule)
	if err != nil {
		r.Recorder.Eventf(p.cron, corev1.EventTypeWarning, "IllegalSchedule", "schedule %q: %v", p.cron.Spec.Schedule, err)
		return nil
	}
	now := r.Now()
	next, err := time.Parse(time.RFC3339, p.cron.Annotations[names.AnnNextCronTime])
	due := err != nil || !next.After(now) || p.cron.Annotations[names.AnnSourceDesiredDigest] == "" && p.cron.Annotations[names.AnnLastCronTime] == ""
	// A schedule that was changed counts from now.
	if err == nil && schedule.Next(now).Before(next) {
		next = schedule.Next(now)
	}
	if !due {
		p.cron.Annotations[names.AnnNextCronTime] = next.UTC().Format(time.RFC3339)
		p.again = next.Sub(now)
		return nil
	}
	next = schedule.Next(now)
	p.cron.Annotations[names.AnnLastCronTime] = now.UTC().Format(time.RFC3339)
	p.cron.Annotations[names.AnnNextCronTime] = next.UTC().Format(time.RFC3339)
	at := metav1.NewTime(now.Truncate(time.Second))
	p.cron.Status.LastExecutionTimestamp = &at
	p.again = next.Sub(now)
	digest, err := r.digest(ctx, p)
	if err != nil {
		r.Recorder.Eventf(p.cron, corev1.EventTypeWarning, "DigestFailed", "cannot ask the source for its digest: %v", err)
		return nil // the schedule tries again
	}
	if digest != "" {
		p.cron.Annotations[names.AnnSourceDesiredDigest] = digest
	}
	return nil
}

// digest is what the source has now.
func (r *Reconciler) digest(ctx context.Context, p *pass) (string, error) {
	source := p.cron.Spec.Template.Spec.Source
	switch {
	case source != nil && source.PVC != nil:
		claim := &corev1.PersistentVolumeClaim{}
		key := client.ObjectKey{Namespace: source.PVC.Namespace, Name: source.PVC.Name}
		if key.Namespace == "" {
			key.Namespace = p.cron.Namespace
		}
		if err := r.Client.Get(ctx, key, claim); err != nil {
			return "", fmt.Errorf("read claim %s: %w", key, err)
		}
		return "uid:" + string(claim.UID), nil
	case source == nil || source.Registry == nil:
		return "", fmt.Errorf("the template's source must be registry or pvc")
	case source.Registry.URL != nil:
		return r.registryDigest(ctx, p, source.Registry)
	case source.Registry.ImageStream != nil:
		return r.imageStreamDigest(ctx, p, *source.Registry.ImageStream)
	}
	return "", fmt.Errorf("the registry source has neither url nor imageStream")
}

func (r *Reconciler) registryDigest(ctx context.Context, p *pass, source *cdi.DataVolumeSourceRegistry) (string, error) {
	q := Question{URL: *source.URL, InsecureHosts: p.settings.Config.Spec.InsecureRegistries}
	if source.SecretRef != nil && *source.SecretRef != "" {
		secret := &corev1.Secret{}
		// We may read Secrets of our own namespace only, as ever.
		key := client.ObjectKey{Namespace: r.Namespace, Name: *source.SecretRef}
		if err := r.Live.Get(ctx, key, secret); err != nil {
			return "", fmt.Errorf("read Secret %s, which the scheduler needs beside the one in the import's namespace: %w", key, err)
		}
		q.User, q.Password = string(secret.Data[names.SecretKeyUser]), string(secret.Data[names.SecretKeyPassword])
	}
	if source.CertConfigMap != nil && *source.CertConfigMap != "" {
		for _, namespace := range []string{p.cron.Namespace, r.Namespace} {
			bundle := &corev1.ConfigMap{}
			err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: *source.CertConfigMap}, bundle)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return "", fmt.Errorf("read the registry's authority %s/%s: %w", namespace, *source.CertConfigMap, err)
			}
			for _, text := range bundle.Data {
				q.Authorities = append(q.Authorities, []byte(text)...)
				q.Authorities = append(q.Authorities, '\n')
			}
			break
		}
	}
	return r.Digest(ctx, q)
}

// volumeName is the name of the import of a digest.
func volumeName(managed, digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	if len(hex) > 12 {
		hex = hex[:12]
	}
	return names.Resource(managed, hex)
}
