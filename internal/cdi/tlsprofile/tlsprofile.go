// Package tlsprofile turns the TLS security profile of CDI's configuration into settings of Go's TLS.
package tlsprofile

import (
	"crypto/tls"
	"strings"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// Profile is how strict a server is.
type Profile struct {
	MinVersion uint16
	// Suites below TLS 1.3; none means Go's choice.
	Suites []uint16
}

// Of gives the settings of a profile. TLS below 1.2 stays off, whatever a profile says.
func Of(p *cdiv1.TLSSecurityProfile) Profile {
	spec := cdiv1.TLSProfiles[cdiv1.TLSProfileIntermediateType]
	if p != nil {
		switch {
		case p.Type == cdiv1.TLSProfileCustomType && p.Custom != nil:
			spec = &p.Custom.TLSProfileSpec
		case cdiv1.TLSProfiles[p.Type] != nil:
			spec = cdiv1.TLSProfiles[p.Type]
		}
	}
	out := Profile{MinVersion: tls.VersionTLS12}
	if spec.MinTLSVersion == cdiv1.VersionTLS13 {
		out.MinVersion = tls.VersionTLS13
	}
	for _, name := range spec.Ciphers {
		for _, suite := range tls.CipherSuites() {
			if suite.Name == standard(name) {
				out.Suites = append(out.Suites, suite.ID)
			}
		}
	}
	return out
}

// Restrict applies the settings.
func (p Profile) Restrict(c *tls.Config) {
	if p.MinVersion > c.MinVersion {
		c.MinVersion = p.MinVersion
	}
	c.CipherSuites = p.Suites
}

// standard gives the standard's name of a cipher suite that OpenSSL calls otherwise: ECDHE-RSA-AES128-GCM-SHA256 is
// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256.
func standard(name string) string {
	if strings.HasPrefix(name, "TLS_") {
		return name
	}
	exchange := ""
	for _, known := range []string{"ECDHE-ECDSA-", "ECDHE-RSA-"} {
		if rest, ok := strings.CutPrefix(name, known); ok {
			exchange, name = strings.TrimSuffix(known, "-")+"-WITH-", rest
		}
	}
	if exchange == "" {
		exchange = "RSA-WITH-"
	}
	cipher := strings.NewReplacer("AES128", "AES-128", "AES256", "AES-256").Replace(name)
	switch {
	case strings.HasPrefix(cipher, "CHACHA20-POLY1305"):
		cipher = "CHACHA20-POLY1305-SHA256"
	case !strings.Contains(cipher, "GCM"):
		cipher = strings.Replace(cipher, "-SHA", "-CBC-SHA", 1)
	}
	return "TLS_" + strings.ReplaceAll(exchange+cipher, "-", "_")
}
