package tlsprofile

import (
	"crypto/tls"
	"slices"
	"testing"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// An administrator who chose a profile must get it, and never less than TLS 1.2.
func TestOf(t *testing.T) {
	custom := &cdiv1.TLSSecurityProfile{Type: cdiv1.TLSProfileCustomType, Custom: &cdiv1.CustomTLSProfile{TLSProfileSpec: cdiv1.TLSProfileSpec{
		Ciphers: []string{"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "no-such-cipher"}, MinTLSVersion: cdiv1.VersionTLS11,
	}}}
	for _, tc := range []struct {
		name    string
		profile *cdiv1.TLSSecurityProfile
		min     uint16
		has     []uint16
		count   int
	}{
		{"none", nil, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}, 9},
		{"old", &cdiv1.TLSSecurityProfile{Type: cdiv1.TLSProfileOldType}, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}, 13},
		{"modern", &cdiv1.TLSSecurityProfile{Type: cdiv1.TLSProfileModernType}, tls.VersionTLS13, nil, 3},
		{"custom", custom, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}, 2},
	} {
		p := Of(tc.profile)
		if p.MinVersion != tc.min || len(p.Suites) != tc.count {
			t.Errorf("%s: version %x, %d suites", tc.name, p.MinVersion, len(p.Suites))
		}
		for _, suite := range tc.has {
			if !slices.Contains(p.Suites, suite) {
				t.Errorf("%s lacks %s", tc.name, tls.CipherSuiteName(suite))
			}
		}
	}
}
