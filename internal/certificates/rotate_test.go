package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

var role = Role{Secret: "s", CommonName: "virt-api.kubevirt.svc", DNSNames: []string{"virt-api.kubevirt.svc"}, Server: true}

func trusted(t *testing.T, leaf Pair, bundle []byte, at time.Time) bool {
	t.Helper()
	cert, err := parseCertificate(leaf.Cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err = cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at})
	return err == nil
}

// A peer whose bundle is up to ten minutes old must trust every leaf that is served, over three generations of the authority:
// else a rotation would drop consoles and migrations.
func TestRotationOverlaps(t *testing.T) {
	policy := DefaultPolicy()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	authority, _, err := Authority{Name: "kubevirt.io"}.Rotate(now, policy)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := Issue(authority.Current, role, now, policy.LeafLifetime)
	if err != nil {
		t.Fatal(err)
	}
	staleBundle, staleSince := authority.Bundle, now
	for end := now.Add(3 * policy.CALifetime); now.Before(end); now = now.Add(3 * time.Minute) {
		if authority, _, err = authority.Rotate(now, policy); err != nil {
			t.Fatal(err)
		}
		if due, _ := LeafDue(leaf, role, authority.Bundle, now, policy); due {
			if leaf, err = Issue(authority.Current, role, now, policy.LeafLifetime); err != nil {
				t.Fatal(err)
			}
		}
		if !trusted(t, leaf, authority.Bundle, now) {
			t.Fatalf("%s: the leaf is not trusted by the present bundle", now)
		}
		if !trusted(t, leaf, staleBundle, now) {
			t.Fatalf("%s: the leaf is not trusted by the bundle of %s", now, staleSince)
		}
		if now.Sub(staleSince) >= 9*time.Minute {
			staleBundle, staleSince = authority.Bundle, now
		}
	}
}

func TestLeafIsIssuedAgainWhenItsRoleChanges(t *testing.T) {
	policy, now := DefaultPolicy(), time.Now()
	authority, _, err := Authority{Name: "kubevirt.io"}.Rotate(now, policy)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := Issue(authority.Current, role, now, policy.LeafLifetime)
	if err != nil {
		t.Fatal(err)
	}
	if due, at := LeafDue(leaf, role, authority.Bundle, now, policy); due || at.Before(now.Add(12*time.Hour)) {
		t.Errorf("a fresh leaf is due=%v at %s", due, at)
	}
	renamed := role
	renamed.DNSNames = []string{"other"}
	if due, _ := LeafDue(leaf, renamed, authority.Bundle, now, policy); !due {
		t.Error("a leaf with other names is not due")
	}
	if due, _ := LeafDue(Pair{}, role, authority.Bundle, now, policy); !due {
		t.Error("a missing leaf is not due")
	}
	if _, err := tls.X509KeyPair(leaf.Cert, leaf.Key); err != nil {
		t.Errorf("the leaf and its key do not fit: %v", err)
	}
}
