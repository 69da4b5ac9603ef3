package operator

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// store keeps what the operator would have applied.
type store struct {
	secrets map[string]*corev1.Secret
	bundles map[string]*corev1.ConfigMap
}

func (s store) Secret(_ context.Context, name string) (*corev1.Secret, error) {
	if kept := s.secrets[name]; kept != nil {
		return kept, nil
	}
	return &corev1.Secret{}, nil
}

func (s store) ConfigMap(_ context.Context, name string) (*corev1.ConfigMap, error) {
	if kept := s.bundles[name]; kept != nil {
		return kept, nil
	}
	return &corev1.ConfigMap{}, nil
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func leafOf(t *testing.T, s *corev1.Secret) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(s.Data[corev1.TLSCertKey])
	if block == nil {
		t.Fatalf("no certificate in %s", s.Name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// renew does what the operator does at now, and gives when it wants to look again.
func (s store) renew(t *testing.T, cdi *cdiv1.CDI, now time.Time) time.Time {
	t.Helper()
	var next time.Time
	for _, chain := range chains(cdi, "kubevirt") {
		kept, err := chain.Renew(t.Context(), s, now, named)
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range kept.Objects {
			switch o := obj.(type) {
			case *corev1.Secret:
				s.secrets[o.Name] = o
			case *corev1.ConfigMap:
				s.bundles[o.Name] = o
			}
		}
		if next.IsZero() || kept.Next.Before(next) {
			next = kept.Next
		}
	}
	return next
}

// Every 15 days each certificate is replaced; a peer whose bundle is ten minutes old, and one that still shows the leaf of the day
// before, must find each other all the time.
func TestCertificatesAreRenewedEveryFifteenDays(t *testing.T) {
	s := store{map[string]*corev1.Secret{}, map[string]*corev1.ConfigMap{}}
	cdi := &cdiv1.CDI{}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	begin, changes, last := now, map[string][]time.Time{}, map[string]string{}
	leaves := map[string]string{names.SecretAPICert: names.BundleAPI, names.SecretProxyCert: names.BundleProxy, names.SecretUploadClientCert: names.BundleUploadClient}
	stale := map[string]string{}
	for now.Before(begin.Add(100 * day)) {
		next := s.renew(t, cdi, now)
		for leaf, bundle := range leaves {
			for _, trust := range []string{s.bundles[bundle].Data[names.BundleKey], stale[bundle]} {
				if trust == "" {
					continue
				}
				pool := x509.NewCertPool()
				pool.AppendCertsFromPEM([]byte(trust))
				_, err := leafOf(t, s.secrets[leaf]).Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				if err != nil {
					t.Fatalf("%s on %s: %v", leaf, now, err)
				}
			}
			if text := string(s.secrets[leaf].Data[corev1.TLSCertKey]); text != last[leaf] {
				changes[leaf] = append(changes[leaf], now)
				last[leaf] = text
			}
			stale[bundle] = s.bundles[bundle].Data[names.BundleKey]
		}
		if !next.After(now) {
			t.Fatalf("at %s the operator wants to look again at %s", now, next)
		}
		now = next
	}
	for leaf, at := range changes {
		if len(at) < 6 {
			t.Errorf("%s was issued %d times in 100 days", leaf, len(at))
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < 14*day || gap > 15*day+time.Hour {
				t.Errorf("%s was replaced after %s", leaf, gap)
			}
		}
	}
}

// Whoever wants shorter lives gets them.
func TestCertConfigCounts(t *testing.T) {
	span := func(h int) *metav1.Duration { return &metav1.Duration{Duration: time.Duration(h) * time.Hour} }
	cdi := &cdiv1.CDI{Spec: cdiv1.CDISpec{CertConfig: &cdiv1.CDICertConfig{
		CA:     &cdiv1.CertConfig{Duration: span(48), RenewBefore: span(24)},
		Server: &cdiv1.CertConfig{Duration: span(24), RenewBefore: span(12)},
		Client: &cdiv1.CertConfig{Duration: span(12)},
	}}}
	s := store{map[string]*corev1.Secret{}, map[string]*corev1.ConfigMap{}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.renew(t, cdi, now)
	for name, hours := range map[string]int{names.SecretAPICert: 24, names.SecretUploadClientCert: 12, names.SecretUploadSigner: 48} {
		if got := leafOf(t, s.secrets[name]).NotAfter.Sub(now); got != time.Duration(hours)*time.Hour {
			t.Errorf("%s lives %s", name, got)
		}
	}
	first := string(s.secrets[names.SecretAPICert].Data[corev1.TLSCertKey])
	s.renew(t, cdi, now.Add(11*time.Hour))
	if string(s.secrets[names.SecretAPICert].Data[corev1.TLSCertKey]) != first {
		t.Error("renewed too early")
	}
	s.renew(t, cdi, now.Add(12*time.Hour+time.Minute))
	if string(s.secrets[names.SecretAPICert].Data[corev1.TLSCertKey]) == first {
		t.Error("not renewed in time")
	}
}

// Whoever writes into a certificate's annotation that its time is over has a new one at once, from a new authority where it is the
// authority's, and what others still trust stays trusted.
func TestAnnotatedEndReplacesThePair(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{names.SecretProxyCert, names.SecretProxySigner, names.SecretUploadSigner, names.SecretUploadClientCert} {
		s := store{map[string]*corev1.Secret{}, map[string]*corev1.ConfigMap{}}
		s.renew(t, &cdiv1.CDI{}, now)
		old, bundle := s.secrets[name].DeepCopy(), s.bundles[names.BundleProxy].Data[names.BundleKey]
		s.secrets[name].Annotations[names.AnnCertNotAfter] = now.Add(time.Second).Format(time.RFC3339)
		s.renew(t, &cdiv1.CDI{}, now.Add(time.Minute))
		if leafOf(t, s.secrets[name]).Equal(leafOf(t, old)) {
			t.Errorf("%s is what it was", name)
		}
		if got := s.secrets[name].Annotations[names.AnnCertNotAfter]; got == old.Annotations[names.AnnCertNotAfter] {
			t.Errorf("the annotation of %s still says %s", name, got)
		}
		trusted := s.bundles[names.BundleProxy].Data[names.BundleKey]
		if grown := trusted != bundle; grown != (name == names.SecretProxySigner) || !strings.HasSuffix(trusted, bundle) {
			t.Errorf("%s was replaced: the bundle of the uploadproxy was\n%s\nand is\n%s", name, bundle, trusted)
		}
	}
}

// A CDIConfig from before is taken over once, and never against what the CDI resource says.
func TestTakeOver(t *testing.T) {
	old := &cdiv1.CDIConfig{Spec: cdiv1.CDIConfigSpec{FeatureGates: []string{"old"}}}
	cdi := &cdiv1.CDI{}
	takeOver(cdi, old)
	if _, authority := cdi.Annotations[names.AnnConfigAuthority]; !authority || cdi.Spec.Config == nil || cdi.Spec.Config.FeatureGates[0] != "old" {
		t.Errorf("%+v", cdi)
	}
	cdi.Spec.Config = nil
	takeOver(cdi, old)
	if cdi.Spec.Config != nil {
		t.Error("taken over twice: a configuration could not be emptied")
	}
	says := &cdiv1.CDI{Spec: cdiv1.CDISpec{Config: &cdiv1.CDIConfigSpec{FeatureGates: []string{"new"}}}}
	takeOver(says, old)
	if says.Spec.Config.FeatureGates[0] != "new" {
		t.Error("the CDI resource was overruled")
	}
}
