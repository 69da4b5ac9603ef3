package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// Policy says how long certificates live and when they are replaced.
type Policy struct {
	CALifetime, CARenewBefore     time.Duration
	LeafLifetime, LeafRenewBefore time.Duration
}

// DefaultPolicy renews leaves daily and the authority weekly; each is replaced when a fifth of its life is left.
func DefaultPolicy() Policy {
	const day = 24 * time.Hour
	return Policy{
		CALifetime: 7 * day, CARenewBefore: 7 * day / 5,
		LeafLifetime: day, LeafRenewBefore: day / 5,
	}
}

// propagation is how long a new authority is only trusted before it signs: kubelet brings a changed ConfigMap into running pods
// within its sync period (one minute) plus its cache's lifetime.
const propagation = 10 * time.Minute

// Authority is the state of the certificate authority: who signs now, who signs next, and everyone to trust.
type Authority struct {
	// Name is what new authorities are called.
	Name    string
	Current Pair
	// Next is trusted already and signs from NextFrom on.
	Next     *Pair
	NextFrom time.Time
	// Bundle is every trusted authority's certificate, PEM.
	Bundle []byte
}

// Rotate returns the authority as it should be at now, and when to look again.
func (a Authority) Rotate(now time.Time, policy Policy) (Authority, time.Time, error) {
	current, err := parseCertificate(a.Current.Cert)
	if err != nil || !now.Before(current.NotAfter) {
		return a.begin(now, policy)
	}
	renewAt := current.NotAfter.Add(-policy.CARenewBefore)
	switch {
	case a.Next != nil && !now.Before(a.NextFrom):
		a.Current, a.Next, a.NextFrom = *a.Next, nil, time.Time{}
		current, err = parseCertificate(a.Current.Cert)
		if err != nil {
			return a.begin(now, policy)
		}
		renewAt = current.NotAfter.Add(-policy.CARenewBefore)
	case a.Next == nil && !now.Before(renewAt):
		next, err := NewAuthority(a.Name, now, policy.CALifetime)
		if err != nil {
			return a, time.Time{}, err
		}
		a.Next, a.NextFrom = &next, now.Add(propagation)
	}
	a.Bundle = a.bundle(now)
	if a.Next != nil {
		return a, a.NextFrom, nil
	}
	return a, renewAt, nil
}

// begin makes an authority where there is none that can sign. What was trusted stays so.
func (a Authority) begin(now time.Time, policy Policy) (Authority, time.Time, error) {
	pair, err := NewAuthority(a.Name, now, policy.CALifetime)
	if err != nil {
		return Authority{}, time.Time{}, err
	}
	fresh := Authority{Name: a.Name, Current: pair, Bundle: a.Bundle}
	fresh.Bundle = fresh.bundle(now)
	return fresh, now.Add(policy.CALifetime - policy.CARenewBefore), nil
}

// maxBundle bounds the bundle, newest first.
const maxBundle = 10

func (a Authority) bundle(now time.Time) []byte {
	blocks := [][]byte{a.Current.Cert}
	if a.Next != nil {
		blocks = append(blocks, a.Next.Cert)
	}
	for rest := a.Bundle; len(blocks) < maxBundle; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})
		known := slices.ContainsFunc(blocks, func(b []byte) bool { return bytes.Equal(b, encoded) })
		if err == nil && now.Before(cert.NotAfter) && !known {
			blocks = append(blocks, encoded)
		}
	}
	return bytes.Join(blocks, nil)
}

// LeafDue tells whether a role's pair has to be issued anew at now, and, if not, when it will have to be.
func LeafDue(pair Pair, role Role, bundle []byte, now time.Time, policy Policy) (bool, time.Time) {
	cert, err := parseCertificate(pair.Cert)
	if err != nil || len(pair.Key) == 0 {
		return true, now
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err = cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	same := cert.Subject.CommonName == role.CommonName && slices.Equal(cert.DNSNames, role.DNSNames)
	renewAt := cert.NotAfter.Add(-min(policy.LeafRenewBefore, cert.NotAfter.Sub(cert.NotBefore)/2))
	if err != nil || !same || !now.Before(renewAt) {
		return true, now
	}
	return false, renewAt
}
