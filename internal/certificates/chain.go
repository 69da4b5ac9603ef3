package certificates

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Keys of the Secrets, and the annotation that says from when on the next authority signs.
const (
	certKey      = corev1.TLSCertKey
	keyKey       = corev1.TLSPrivateKeyKey
	nextCertKey  = "next.crt"
	nextKeyKey   = "next.key"
	nextFromNote = "virtctl.io/next-signs-from"
)

// Annotations that other programs read a certificate's life from. Who moves the end into the past has the pair replaced.
const (
	notBeforeNote = "auth.openshift.io/certificate-not-before"
	notAfterNote  = "auth.openshift.io/certificate-not-after"
	issuerNote    = "auth.openshift.io/certificate-issuer"
)

// Chain is one authority with the leaves it signs, and the objects they are kept in.
type Chain struct {
	// Name is what the authority is called in its certificates.
	Name string
	// Signer is the authority's Secret, Bundle the ConfigMap with everyone to trust under BundleKey.
	Signer, Bundle, BundleKey string
	Roles                     []Role
	Policy                    Policy
	// Annotated chains carry their certificates' life and issuer as annotations.
	Annotated bool
}

// Store reads what is kept. What is not there comes back empty.
type Store interface {
	Secret(ctx context.Context, name string) (*corev1.Secret, error)
	ConfigMap(ctx context.Context, name string) (*corev1.ConfigMap, error)
}

// Kept is a chain as it should be stored.
type Kept struct {
	Objects []runtime.Object
	// Bundle is everyone to trust, PEM.
	Bundle []byte
	// Next is when to look again.
	Next time.Time
}

// Renew brings the authority and every leaf up to date. Meta gives the metadata of the objects by their name.
func (c Chain) Renew(ctx context.Context, store Store, now time.Time, meta func(name string) metav1.ObjectMeta) (Kept, error) {
	authority, err := c.read(ctx, store, now)
	if err != nil {
		return Kept{}, err
	}
	authority, next, err := authority.Rotate(now, c.Policy)
	if err != nil {
		return Kept{}, err
	}
	out := Kept{Objects: c.authorityObjects(authority, meta), Bundle: authority.Bundle, Next: next}
	for _, role := range c.Roles {
		secret, err := store.Secret(ctx, role.Secret)
		if err != nil {
			return Kept{}, fmt.Errorf("read Secret %s: %w", role.Secret, err)
		}
		pair := c.pair(secret, now)
		due, at := LeafDue(pair, role, authority.Bundle, now, c.Policy)
		if due {
			if pair, err = Issue(authority.Current, role, now, c.Policy.LeafLifetime); err != nil {
				return Kept{}, err
			}
			_, at = LeafDue(pair, role, authority.Bundle, now, c.Policy)
		}
		if at.Before(out.Next) {
			out.Next = at
		}
		out.Objects = append(out.Objects, c.secret(meta(role.Secret), pair))
	}
	return out, nil
}

func (c Chain) read(ctx context.Context, store Store, now time.Time) (Authority, error) {
	secret, err := store.Secret(ctx, c.Signer)
	if err != nil {
		return Authority{}, fmt.Errorf("read the certificate authority %s: %w", c.Signer, err)
	}
	bundle, err := store.ConfigMap(ctx, c.Bundle)
	if err != nil {
		return Authority{}, fmt.Errorf("read the CA bundle %s: %w", c.Bundle, err)
	}
	a := Authority{
		Name: c.Name, Current: c.pair(secret, now), Bundle: []byte(bundle.Data[c.BundleKey]),
	}
	if cert := secret.Data[nextCertKey]; len(cert) > 0 {
		a.Next = &Pair{Cert: cert, Key: secret.Data[nextKeyKey]}
		from, err := time.Parse(time.RFC3339, secret.Annotations[nextFromNote])
		if err != nil {
			from = time.Now()
		}
		a.NextFrom = from
	}
	return a, nil
}

// pair is what a Secret holds, nothing when its annotation says that its time is over.
func (c Chain) pair(secret *corev1.Secret, now time.Time) Pair {
	if end, err := time.Parse(time.RFC3339, secret.Annotations[notAfterNote]); c.Annotated && err == nil && !now.Before(end) {
		return Pair{}
	}
	return Pair{Cert: secret.Data[certKey], Key: secret.Data[keyKey]}
}

func (c Chain) authorityObjects(a Authority, meta func(string) metav1.ObjectMeta) []runtime.Object {
	secret := c.secret(meta(c.Signer), a.Current)
	if a.Next != nil {
		secret.Data[nextCertKey], secret.Data[nextKeyKey] = a.Next.Cert, a.Next.Key
		if secret.Annotations == nil {
			secret.Annotations = map[string]string{}
		}
		secret.Annotations[nextFromNote] = a.NextFrom.UTC().Format(time.RFC3339)
	}
	return []runtime.Object{secret, &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta(c.Bundle),
		Data:       map[string]string{c.BundleKey: string(a.Bundle)},
	}}
}

func (c Chain) secret(meta metav1.ObjectMeta, pair Pair) *corev1.Secret {
	if c.Annotated {
		meta.Annotations = notes(pair)
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: map[string][]byte{certKey: pair.Cert, keyKey: pair.Key},
	}
}

func notes(pair Pair) map[string]string {
	cert, err := parseCertificate(pair.Cert)
	if err != nil {
		return nil
	}
	return map[string]string{
		notBeforeNote: cert.NotBefore.UTC().Format(time.RFC3339), notAfterNote: cert.NotAfter.UTC().Format(time.RFC3339),
		issuerNote: cert.Issuer.CommonName,
	}
}
