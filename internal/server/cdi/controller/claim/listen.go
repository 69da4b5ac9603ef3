package claim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/early"
)

// asking is how long the certificate is good with which a server is asked: the connection is made at once.
const asking = 10 * time.Minute

// earlyEnd is the end of a worker that has told that it is done, and which the kubelet does not know yet.
func (r *Reconciler) earlyEnd(p *pass) *end {
	message, told := r.Ear.Of(p.claim, run(p.pod))
	if !told {
		return nil
	}
	return &end{reason: "Completed", message: message}
}

// listen asks a server that is ready to tell when it is done.
func (r *Reconciler) listen(ctx context.Context, p *pass) error {
	if p.pod.Status.Phase != corev1.PodRunning || p.pod.Status.PodIP == "" || !ready(p.pod) || r.Ear.Listens(p.claim, run(p.pod)) {
		return nil
	}
	config, err := r.serverTLS(ctx, p)
	if err != nil {
		return err
	}
	r.Ear.Listen(p.before, early.Server{
		Run: run(p.pod), TLS: config, Address: net.JoinHostPort(p.pod.Status.PodIP, strconv.Itoa(names.PortUploadServer)),
	})
	return nil
}

// run names one life of a server: its container may start anew in the same pod.
func run(pod *corev1.Pod) string { return fmt.Sprintf("%s/%d", pod.UID, restarts(pod)) }

// serverTLS is how a claim's upload server and who leads uploads to it know each other.
func (r *Reconciler) serverTLS(ctx context.Context, p *pass) (*tls.Config, error) {
	signer, err := r.authority(ctx, names.SecretUploadClientSigner)
	if err != nil {
		return nil, err
	}
	own, err := signer.Client(clientOf(p.claim), r.Now(), asking)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(own.Cert, own.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate just made: %w", err)
	}
	authorities, err := r.bundle(ctx, names.BundleUpload)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("%s holds no certificate", names.BundleUpload)
	}
	return &tls.Config{RootCAs: roots, ServerName: serverHosts(p.claim)[0], Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// clientOf is the name that a claim's upload server lets in.
func clientOf(claim *corev1.PersistentVolumeClaim) string {
	if jobOf(claim) == cloning {
		return claim.Annotations[names.AnnUploadClientName]
	}
	return names.UploadClientName
}
