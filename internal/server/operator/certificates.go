package operator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/install/components"
	"virtctl/internal/server/operator/certificates"
)

const (
	caName       = "kubevirt-ca"
	caBundleKey  = "ca-bundle"
	nextFromNote = "virtctl.io/next-signs-from"
)

// roles is every identity of the platform, one Secret each. CommonNames are what peers check.
func roles(namespace string) []certificates.Role {
	service := func(secret, name string) certificates.Role {
		return certificates.Role{
			Secret: secret, CommonName: name + "." + namespace + ".svc", Server: true,
			DNSNames: []string{name, name + "." + namespace, name + "." + namespace + ".svc", name + "." + namespace + ".svc.cluster.local"},
		}
	}
	client := func(secret, name string) certificates.Role {
		return certificates.Role{Secret: secret, CommonName: "kubevirt.io:system:client:" + name, Client: true}
	}
	return []certificates.Role{
		service("kubevirt-virt-api-certs", "virt-api"),
		service("kubevirt-controller-certs", "virt-controller"),
		service("kubevirt-operator-certs", "kubevirt-operator-webhook"),
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
	now, policy := time.Now(), rotation(kv)
	authority, err := r.readAuthority(ctx)
	if err != nil {
		return 0, nil, err
	}
	authority, next, err := authority.Rotate(now, policy)
	if err != nil {
		return 0, nil, err
	}
	objects := authorityObjects(opts, authority)
	for _, role := range roles(opts.Namespace) {
		pair, err := r.readPair(ctx, role.Secret)
		if err != nil {
			return 0, nil, err
		}
		due, at := certificates.LeafDue(pair, role, authority.Bundle, now, policy)
		if due {
			if pair, err = certificates.Issue(authority.Current, role, now, policy.LeafLifetime); err != nil {
				return 0, nil, err
			}
			_, at = certificates.LeafDue(pair, role, authority.Bundle, now, policy)
		}
		if at.Before(next) {
			next = at
		}
		objects = append(objects, tlsSecret(opts, role.Secret, map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key}, nil))
	}
	if err := r.applier.applyAll(ctx, objects); err != nil {
		return 0, nil, err
	}
	return max(time.Until(next), time.Minute), authority.Bundle, nil
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

func (r *Reconciler) readAuthority(ctx context.Context) (certificates.Authority, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: caName, Namespace: r.namespace}}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: caName, Namespace: r.namespace}}
	if _, err := r.get(ctx, secret); err != nil {
		return certificates.Authority{}, fmt.Errorf("read the certificate authority: %w", err)
	}
	if _, err := r.get(ctx, bundle); err != nil {
		return certificates.Authority{}, fmt.Errorf("read the CA bundle: %w", err)
	}
	a := certificates.Authority{
		Current: certificates.Pair{Cert: secret.Data["tls.crt"], Key: secret.Data["tls.key"]},
		Bundle:  []byte(bundle.Data[caBundleKey]),
	}
	if cert := secret.Data["next.crt"]; len(cert) > 0 {
		a.Next = &certificates.Pair{Cert: cert, Key: secret.Data["next.key"]}
		from, err := time.Parse(time.RFC3339, secret.Annotations[nextFromNote])
		if err != nil {
			from = time.Now()
		}
		a.NextFrom = from
	}
	return a, nil
}

func (r *Reconciler) readPair(ctx context.Context, name string) (certificates.Pair, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace}}
	if _, err := r.get(ctx, secret); err != nil {
		return certificates.Pair{}, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return certificates.Pair{Cert: secret.Data["tls.crt"], Key: secret.Data["tls.key"]}, nil
}

func authorityObjects(opts components.Options, a certificates.Authority) []runtime.Object {
	data := map[string][]byte{"tls.crt": a.Current.Cert, "tls.key": a.Current.Key}
	var notes map[string]string
	if a.Next != nil {
		data["next.crt"], data["next.key"] = a.Next.Cert, a.Next.Key
		notes = map[string]string{nextFromNote: a.NextFrom.UTC().Format(time.RFC3339)}
	}
	bundle := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: opts.Meta(caName, components.OperatorName),
		Data:       map[string]string{caBundleKey: string(a.Bundle)},
	}
	return []runtime.Object{tlsSecret(opts, caName, data, notes), bundle}
}

func tlsSecret(opts components.Options, name string, data map[string][]byte, notes map[string]string) runtime.Object {
	meta := opts.Meta(name, components.OperatorName)
	meta.Annotations = notes
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: data,
	}
}
