package render

import (
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"virtctl/embedded/internal/pki"
)

// ContextName is the administrator's context; other instances than the default carry their name.
func ContextName(instance string) string {
	if instance == "default" {
		return "virtctl-embedded"
	}
	return "virtctl-embedded-" + instance
}

// Kubeconfig renders a kubeconfig that carries its certificates, so that it works wherever it is copied to.
func Kubeconfig(server, context, user string, s pki.Store) ([]byte, error) {
	var data [3][]byte
	for i, path := range []string{s.Cert(pki.CA), s.Cert(user), s.Key(user)} {
		var err error
		if data[i], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("render kubeconfig: %w", err)
		}
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[context] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: data[0]}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: data[1], ClientKeyData: data[2]}
	config.Contexts[context] = &clientcmdapi.Context{Cluster: context, AuthInfo: user}
	config.CurrentContext = context
	out, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("render kubeconfig: %w", err)
	}
	return out, nil
}
