package worker

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/source/gcs"
	"virtctl/internal/cdi/source/local"
	"virtctl/internal/cdi/source/registry"
	"virtctl/internal/cdi/source/s3"
	"virtctl/internal/cdi/source/web"
)

// input is where an import reads from.
type input struct {
	// name tells this source from others, without secrets.
	name string
	open func(ctx context.Context, start source.Start) (source.Stream, error)
	// object gives random access; nil where there is none.
	object source.Object
	// labels are what the source says about the image, once it was opened.
	labels func() map[string]string
}

// getenv is os.Getenv, or a test's.
type getenv func(string) string

func (e getenv) flag(name string) bool {
	v, _ := strconv.ParseBool(e(name))
	return v
}

// webOptions is how servers are reached.
func (e getenv) webOptions() web.Options {
	return web.Options{
		CertDirs: []string{e(names.EnvCertDir), e(names.EnvProxyCertDir)}, Insecure: e.flag(names.EnvInsecureTLS), Proxy: http.ProxyFromEnvironment,
	}
}

// newInput makes the source that the environment names.
func (w *Worker) newInput(ctx context.Context) (*input, error) {
	e := w.Env
	endpoint := strings.TrimSpace(e(names.EnvEndpoint))
	switch kind := e(names.EnvSource); kind {
	case names.SourceHTTP:
		h := web.HTTP{
			URL: endpoint, User: e(names.EnvAccessKeyID), Password: e(names.EnvSecretKey), Options: e.webOptions(),
			Headers: extraHeaders(e), SecretHeaders: secretHeaders(w.ExtraHeaders),
		}
		return w.webInput(h.Object())
	case names.SourceS3:
		return w.webInput(s3.Source{URL: endpoint, AccessKey: e(names.EnvAccessKeyID), SecretKey: e(names.EnvSecretKey), Options: e.webOptions()}.Object())
	case names.SourceGCS:
		return w.webInput(gcs.Source{URL: endpoint, KeyFile: e(names.EnvGoogleCredentials), Options: e.webOptions()}.Object(ctx))
	case names.SourceRegistry:
		if e(names.EnvPullMethod) == pullNode {
			disk, err := local.Find(w.Image)
			if err != nil {
				return nil, err
			}
			return w.objectInput(endpoint, disk), nil
		}
		image := &registry.Image{
			URL: endpoint, User: e(names.EnvAccessKeyID), Password: e(names.EnvSecretKey), Architecture: e(names.EnvArchitecture),
			Policy: w.Policy, Options: e.webOptions(),
		}
		return &input{name: endpoint, open: image.Open, labels: image.Labels}, nil
	case names.SourceImageio:
		return nil, source.Fatalf(source.ReasonUnsupported, "this importer has no client for oVirt's image service: export the disk and import it with the http source, or upload it with virtctl image-upload")
	case names.SourceVDDK:
		return nil, source.Fatalf(source.ReasonUnsupported, "this importer has no VMware VDDK library, which cannot be redistributed: export the disk as VMDK and import it with the http source, or upload it with virtctl image-upload")
	case names.SourceGlance:
		return nil, source.Fatalf(source.ReasonUnsupported, "the glance source was removed: use the http source with the image's download URL")
	default:
		return nil, source.Fatalf(reasonInvalid, "%q is no import source: it must be http, registry, s3, gcs or none", kind)
	}
}

// pullNode is the pull method in which the node brings the image.
const pullNode = "node"

func (w *Worker) webInput(object *web.Object, err error) (*input, error) {
	if err != nil {
		return nil, err
	}
	// The query may hold a signature: it changes, and it is a secret.
	return w.objectInput(object.URL.Scheme+"://"+object.URL.Host+object.URL.EscapedPath(), object), nil
}

func (w *Worker) objectInput(name string, object source.Object) *input {
	return &input{
		name: name, object: object,
		open: func(ctx context.Context, start source.Start) (source.Stream, error) {
			r, err := source.NewReader(ctx, object, start, w.Policy)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		labels: func() map[string]string { return nil },
	}
}

// maxHeaders bounds both lists.
const maxHeaders = 64

// extraHeaders are IMPORTER_EXTRA_HEADER_0 and on.
func extraHeaders(e getenv) []string {
	var lines []string
	for i := range maxHeaders {
		if line := e(names.EnvExtraHeader + strconv.Itoa(i)); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// secretHeaders are in the files of mounted Secrets: dir/0/secretHeader and on.
func secretHeaders(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	sort.Strings(files)
	var lines []string
	for _, file := range files {
		st, err := os.Stat(file)
		if err != nil || !st.Mode().IsRegular() || st.Size() > 64<<10 || len(lines) == maxHeaders {
			continue
		}
		raw, err := os.ReadFile(file)
		if line := strings.TrimSpace(string(raw)); err == nil && line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
