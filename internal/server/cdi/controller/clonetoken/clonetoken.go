// Package clonetoken keeps the permission to clone: the webhook gives the creator of a DataVolume a token that is soon over, and
// the controller turns it into one that lasts as long as the DataVolume.
package clonetoken

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
)

// Source is what may be read.
type Source struct {
	// Snapshot tells a VolumeSnapshot from a claim.
	Snapshot        bool
	Namespace, Name string
}

func (s Source) resource() metav1.GroupVersionResource {
	if s.Snapshot {
		return metav1.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshots"}
	}
	return token.Claims()
}

// Target is what is filled, and for whom.
type Target struct {
	Namespace, Name string
	// UID is the DataVolume's, or the claim's when there is none.
	UID types.UID
}

// Keeper checks and prolongs tokens with the key in the install namespace.
type Keeper struct {
	Live      client.Reader
	Namespace string
	Now       func() time.Time
}

// Extend turns a token into one that lasts. It fails when the token does not allow this clone.
func (k *Keeper) Extend(ctx context.Context, text string, from Source, to Target) (string, error) {
	secret, err := k.secret(ctx)
	if err != nil {
		return "", err
	}
	if err := k.verify(secret, names.TokenIssuerAPI, text, from, to); err != nil {
		return "", err
	}
	return k.sign(secret, from, to)
}

// Grant gives a lasting token for a clone that the caller has found to be allowed.
func (k *Keeper) Grant(ctx context.Context, from Source, to Target) (string, error) {
	secret, err := k.secret(ctx)
	if err != nil {
		return "", err
	}
	return k.sign(secret, from, to)
}

func (k *Keeper) sign(secret *corev1.Secret, from Source, to Target) (string, error) {
	private, err := token.ParsePrivate(secret.Data[names.SigningKeyPrivate])
	if err != nil {
		return "", fmt.Errorf("read the signing key: %w", err)
	}
	return token.Sign(private, names.TokenIssuerClone, token.Payload{
		Operation: token.Clone, Name: from.Name, Namespace: from.Namespace, Resource: from.resource(),
		Params: map[string]string{
			token.ParamTargetNamespace: to.Namespace, token.ParamTargetName: to.Name, token.ParamUID: string(to.UID),
		},
	}, k.Now(), token.LongLifetime)
}

// Check tells whether the annotations of a target hold a token that allows the clone.
func (k *Keeper) Check(ctx context.Context, annotations map[string]string, from Source, to Target) error {
	secret, err := k.secret(ctx)
	if err != nil {
		return err
	}
	if long := annotations[names.AnnExtendedCloneToken]; long != "" {
		return k.verify(secret, names.TokenIssuerClone, long, from, to)
	}
	short := annotations[names.AnnCloneToken]
	if short == "" {
		return fmt.Errorf("%w: annotation %s is missing; create a DataVolume, which gets it when you may read the source",
			token.ErrInvalid, names.AnnCloneToken)
	}
	return k.verify(secret, names.TokenIssuerAPI, short, from, to)
}

func (k *Keeper) verify(secret *corev1.Secret, issuer, text string, from Source, to Target) error {
	public, err := token.ParsePublic(secret.Data[names.SigningKeyPublic])
	if err != nil {
		return fmt.Errorf("read the signing key: %w", err)
	}
	p, err := token.Verify(public, issuer, text, k.Now())
	if err != nil {
		return err
	}
	uid := p.Params[token.ParamUID]
	if p.Operation != token.Clone || p.Namespace != from.Namespace || p.Name != from.Name || p.Resource != from.resource() ||
		p.Params[token.ParamTargetNamespace] != to.Namespace || p.Params[token.ParamTargetName] != to.Name ||
		uid != "" && uid != string(to.UID) || uid == "" && issuer == names.TokenIssuerClone {
		return fmt.Errorf("%w: it is for another clone; create the DataVolume anew", token.ErrInvalid)
	}
	return nil
}

func (k *Keeper) secret(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	if err := k.Live.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: names.SecretSigningKey}, secret); err != nil {
		return nil, fmt.Errorf("read the signing key %s/%s, which cdi-apiserver makes: %w", k.Namespace, names.SecretSigningKey, err)
	}
	return secret, nil
}
