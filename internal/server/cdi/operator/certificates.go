package operator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/certificates"
	components "virtctl/internal/install/components/cdi"
)

const day = 24 * time.Hour

// defaultPolicy replaces every certificate after 15 days. What a leaf lives longer is for those who were away when it was
// replaced; what an authority lives longer is for the last leaf it signed.
func defaultPolicy() certificates.Policy {
	return certificates.Policy{
		CALifetime: 36 * day, CARenewBefore: 21 * day,
		LeafLifetime: 18 * day, LeafRenewBefore: 3 * day,
	}
}

// policies are the life of servers' and clients' certificates as spec.certConfig wants it.
func policies(cdi *cdiv1.CDI) (server, client certificates.Policy) {
	server, client = defaultPolicy(), defaultPolicy()
	c := cdi.Spec.CertConfig
	if c == nil {
		return server, client
	}
	set := func(config *cdiv1.CertConfig, lifetime, before *time.Duration) {
		if config == nil {
			return
		}
		if config.Duration != nil {
			*lifetime, *before = config.Duration.Duration, config.Duration.Duration/2
		}
		if config.RenewBefore != nil {
			*before = config.RenewBefore.Duration
		}
	}
	for _, p := range []*certificates.Policy{&server, &client} {
		set(c.CA, &p.CALifetime, &p.CARenewBefore)
	}
	set(c.Server, &server.LeafLifetime, &server.LeafRenewBefore)
	set(c.Client, &client.LeafLifetime, &client.LeafRenewBefore)
	return server, client
}

// chains are the four authorities of the contract with what they sign. Upload servers' certificates are signed by
// cdi-deployment, one for each claim, in the claims' namespaces.
func chains(cdi *cdiv1.CDI, namespace string) []certificates.Chain {
	server, client := policies(cdi)
	chain := func(signer, bundle string, policy certificates.Policy, roles ...certificates.Role) certificates.Chain {
		return certificates.Chain{
			Name: signer, Signer: signer, Bundle: bundle, BundleKey: names.BundleKey, Roles: roles, Policy: policy, Annotated: true,
		}
	}
	return []certificates.Chain{
		chain(names.SecretAPISigner, names.BundleAPI, server, certificates.ServiceRole(names.SecretAPICert, names.ServiceAPI, namespace),
			certificates.ServiceRole(components.SecretControllerCert, names.ServicePrometheus, namespace)),
		chain(names.SecretProxySigner, names.BundleProxy, server, certificates.ServiceRole(names.SecretProxyCert, names.ServiceUploadProxy, namespace)),
		chain(names.SecretUploadSigner, names.BundleUpload, server),
		chain(names.SecretUploadClientSigner, names.BundleUploadClient, client, certificates.Role{
			Secret: names.SecretUploadClientCert, CommonName: names.UploadClientName, Client: true,
		}),
	}
}

// certificates brings every authority and every leaf up to date and returns when to look again, and who signs the certificate
// of the service cdi-api.
func (r *Reconciler) certificates(ctx context.Context, cdi *cdiv1.CDI, opts components.Options) (time.Duration, []byte, error) {
	meta := func(name string) metav1.ObjectMeta { return opts.Meta(name, names.DeploymentOperator) }
	now := time.Now()
	next := now.Add(day)
	var bundle []byte
	var objects []runtime.Object
	for _, chain := range chains(cdi, opts.Namespace) {
		kept, err := chain.Renew(ctx, r, now, meta)
		if err != nil {
			return 0, nil, err
		}
		if chain.Bundle == names.BundleAPI {
			bundle = kept.Bundle
		}
		if kept.Next.Before(next) {
			next = kept.Next
		}
		objects = append(objects, kept.Objects...)
	}
	if err := r.applier.ApplyAll(ctx, objects); err != nil {
		return 0, nil, err
	}
	return max(time.Until(next), time.Minute), bundle, nil
}

// signingKey keeps the key of upload and clone tokens. It stays what it is as long as it can be read: clone tokens live for
// years.
func (r *Reconciler) signingKey(ctx context.Context, opts components.Options) error {
	secret, err := r.Secret(ctx, names.SecretSigningKey)
	if err != nil {
		return fmt.Errorf("read the token signing key: %w", err)
	}
	private, public := secret.Data[names.SigningKeyPrivate], secret.Data[names.SigningKeyPublic]
	if !fits(private, public) {
		if private, public, err = token.NewKey(); err != nil {
			return err
		}
	}
	return r.applier.ApplyAll(ctx, []runtime.Object{&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: opts.Meta(names.SecretSigningKey, names.DeploymentAPIServer), Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{names.SigningKeyPrivate: private, names.SigningKeyPublic: public},
	}})
}

func fits(private, public []byte) bool {
	key, err := token.ParsePrivate(private)
	if err != nil {
		return false
	}
	other, err := token.ParsePublic(public)
	return err == nil && other.Equal(&key.PublicKey)
}

// Secret reads one of CDI's own, empty when it is not there.
func (r *Reconciler) Secret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace}}
	return secret, r.read(ctx, secret)
}

// ConfigMap reads one of CDI's own, empty when it is not there.
func (r *Reconciler) ConfigMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.namespace}}
	return bundle, r.read(ctx, bundle)
}

// read asks the API server for what the cache does not have: a key that was made a moment ago, or by somebody else, must not be
// made again.
func (r *Reconciler) read(ctx context.Context, obj client.Object) error {
	key := client.ObjectKeyFromObject(obj)
	err := r.client.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) {
		err = r.direct.Get(ctx, key, obj)
	}
	return client.IgnoreNotFound(err)
}
