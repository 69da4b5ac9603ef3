package clonetoken

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
)

// Nobody's disk is read on a token for something else, forged, too old, or of another DataVolume of the same name.
func TestTokens(t *testing.T) {
	private, public, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: names.SecretSigningKey},
		Data:       map[string][]byte{names.SigningKeyPrivate: private, names.SigningKeyPublic: public},
	}
	now := time.Unix(1_700_000_000, 0)
	k := &Keeper{Live: fake.NewClientBuilder().WithObjects(secret).Build(), Namespace: "kubevirt", Now: func() time.Time { return now }}
	from, to := Source{Namespace: "golden", Name: "disk"}, Target{Namespace: "lab", Name: "copy", UID: "one"}
	key, err := token.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	short := func(name string) string {
		text, err := token.Sign(key, names.TokenIssuerAPI, token.Payload{
			Operation: token.Clone, Namespace: "golden", Name: name, Resource: token.Claims(),
			Params: map[string]string{token.ParamTargetNamespace: "lab", token.ParamTargetName: "copy"},
		}, now, token.Lifetime)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ctx := context.Background()
	long, err := k.Extend(ctx, short("disk"), from, to)
	if err != nil {
		t.Fatal(err)
	}
	now = now.AddDate(5, 0, 0)
	if err := k.Check(ctx, map[string]string{names.AnnExtendedCloneToken: long}, from, to); err != nil {
		t.Errorf("after five years: %v", err)
	}
	for name, test := range map[string]struct {
		a    map[string]string
		from Source
		to   Target
	}{
		"none":              {nil, from, to},
		"cut short":         {map[string]string{names.AnnCloneToken: short("disk")[:20]}, from, to},
		"another source":    {map[string]string{names.AnnCloneToken: short("other")}, from, to},
		"a snapshot":        {map[string]string{names.AnnExtendedCloneToken: long}, Source{Snapshot: true, Namespace: "golden", Name: "disk"}, to},
		"another namespace": {map[string]string{names.AnnExtendedCloneToken: long}, from, Target{"evil", "copy", "one"}},
		"made anew":         {map[string]string{names.AnnExtendedCloneToken: long}, from, Target{"lab", "copy", "two"}},
		"short as long":     {map[string]string{names.AnnExtendedCloneToken: short("disk")}, from, to},
	} {
		if err := k.Check(ctx, test.a, test.from, test.to); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.Namespace = "elsewhere"
	if err := k.Check(ctx, map[string]string{names.AnnExtendedCloneToken: long}, from, to); err == nil || errors.Is(err, token.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
}
