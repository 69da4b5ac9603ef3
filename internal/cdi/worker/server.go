package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/upload"
	"virtctl/internal/cdi/worker/metrics"
)

// upload takes an upload, or another claim's content.
func (w *Worker) upload(ctx context.Context) (names.TerminationMessage, error) {
	none := names.TerminationMessage{}
	vol, opts, err := w.target(w.Env(names.EnvUploadImageSize))
	if err != nil {
		return none, err
	}
	var deadline time.Time
	if text := w.Env(names.EnvDeadline); text != "" {
		if deadline, err = time.Parse(time.RFC3339, text); err != nil {
			return none, source.Fatalf(reasonInvalid, "%s is no time of RFC 3339: %w", names.EnvDeadline, err)
		}
	}
	if to := w.Env(names.EnvDestination); to != "" && to != vol.Disk {
		return none, source.Fatalf(reasonInvalid, "%s is %s, and the pod's claim is at %s", names.EnvDestination, to, vol.Disk)
	}
	l, err := net.Listen("tcp", w.Uploads)
	if err != nil {
		return none, fmt.Errorf("serve uploads: %w", err)
	}
	w.logf("waiting for an upload on %s", l.Addr())
	server := upload.New(upload.Config{
		Volume: vol, Options: opts, Measure: func() (stream.Options, error) {
			_, now, err := w.target(w.Env(names.EnvUploadImageSize))
			return now, err
		},
		ClientName: w.Env(names.EnvClientName), Deadline: deadline, Logf: w.logf,
		Progress: metrics.NewProgress(names.MetricImportProgress, w.Env(names.EnvOwnerUID)),
		TLS: upload.TLS{
			CertFile: w.Env(names.EnvTLSCertFile), KeyFile: w.Env(names.EnvTLSKeyFile), ClientCAFile: w.Env(names.EnvClientCertFile),
			MinVersion: w.Env(names.EnvTLSMinVersion), Ciphers: w.Env(names.EnvTLSCiphers),
		},
	})
	res, err := server.Run(ctx, l)
	var scratch *upload.ScratchError
	if errors.As(err, &scratch) {
		return none, &scratchError{bytes: scratch.Bytes}
	}
	if err != nil {
		return none, err
	}
	return res.Message(), nil
}
