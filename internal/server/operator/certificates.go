package operator

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/certificates"
	"virtctl/internal/install/components"
)

const (
	caName      = "kubevirt-ca"
	caBundleKey = "ca-bundle"
)

// roles is every identity of the platform, one Secret each. CommonNames are what peers check.
func roles(namespace string) []certificates.Role {
	client := func(secret, name string) certificates.Role {
		return certificates.Role{Secret: secret, CommonName: "kubevirt.io:system:client:" + name, Client: true}
	}
	return []certificates.Role{
		certificates.ServiceRole("kubevirt-virt-api-certs", "virt-api", namespace),
		certificates.ServiceRole("kubevirt-controller-certs", "virt-controller", namespace),
		certificates.ServiceRole("kubevirt-operator-certs", "kubevirt-operator-webhook", namespace),
		client("kubevirt-virt-handler-certs", "virt-handler"),
		client("kubevirt-virt-handler-migration-client-certs", "migration"),
		{
			Secret: "kubevirt-virt-handler-server-certs", CommonName: "kubevirt.io:system:node:virt-handler",
			DNSNames: []string{"kubevirt.io:system:node:virt-handler"}, Server: true,
		},
	}
}

// certificates brings the authority and every role's Secret up to date and returns when to look again, and the bundle.
func (r *Reconciler) certificates(ctx context.Context, kv *v1.KubeVirt, opts components.Options) (time.Duration, []byte, error) {
	chain := certificates.Chain{
		Name: "kubevirt.io", Signer: caName, Bundle: caName, BundleKey: caBundleKey, Roles: roles(opts.Namespace), Policy: rotation(kv),
	}
	kept, err := chain.Renew(ctx, r, time.Now(), func(name string) metav1.ObjectMeta { return opts.Meta(name, components.OperatorName) })
	if err != nil {
		return 0, nil, err
	}
	if err := r.applier.ApplyAll(ctx, kept.Objects); err != nil {
		return 0, nil, err
	}
	return max(time.Until(kept.Next), time.Minute), kept.Bundle, nil
}

// rotation reads spec.certificateRotateStrategy.
func rotation(kv *v1.KubeVirt) certificates.Policy {
	p := certificates.DefaultPolicy()
	self := kv.Spec.CertificateRotationStrategy.SelfSigned
	if self == nil {
		return p
	}
	set := func(c *v1.CertConfig, lifetime, before *time.Duration) {
		if c == nil {
			return
		}
		if c.Duration != nil {
			*lifetime, *before = c.Duration.Duration, c.Duration.Duration/5
		}
		if c.RenewBefore != nil {
			*before = c.RenewBefore.Duration
		}
	}
	set(self.CA, &p.CALifetime, &p.CARenewBefore)
	set(self.Server, &p.LeafLifetime, &p.LeafRenewBefore)
	return p
}

// Secret reads one of the platform's own, empty when it is not there.
func (r *Reconciler) Secret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace}}
	_, err := r.get(ctx, secret)
	return secret, err
}

// ConfigMap reads one of the platform's own, empty when it is not there.
func (r *Reconciler) ConfigMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace}}
	_, err := r.get(ctx, bundle)
	return bundle, err
}
