package apiserver

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	uploadv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/upload/v1beta1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/cdi/uploadapi"
	"virtctl/internal/reply"
	"virtctl/internal/server/cdi/apiserver/review"
)

// maxRequest is far more than a request for a token has.
const maxRequest = 1 << 20

// signer makes tokens.
type signer struct {
	key func() (*rsa.PrivateKey, error)
	now func() time.Time
}

func (s signer) sign(p token.Payload) (string, error) {
	key, err := s.key()
	if err != nil {
		return "", err
	}
	return token.Sign(key, names.TokenIssuerAPI, p, s.now(), token.Lifetime)
}

func (s signer) upload(namespace, claim string) (string, error) {
	return s.sign(token.Payload{Operation: token.Upload, Name: claim, Namespace: namespace, Resource: token.Claims()})
}

func (s signer) clone(source, target review.Object) (string, error) {
	return s.sign(token.Payload{
		Operation: token.Clone, Name: source.Name, Namespace: source.Namespace, Resource: source.Resource,
		Params: map[string]string{token.ParamTargetNamespace: target.Namespace, token.ParamTargetName: target.Name},
	})
}

// createToken answers a request with a token that allows to upload into the claim it names, for a while. Nothing is stored.
func (a *api) createToken(w http.ResponseWriter, r *http.Request) {
	request, err := readRequest(w, r)
	if err != nil {
		reply.Error(w, err)
		return
	}
	namespace := r.PathValue("namespace")
	if request.Namespace != "" && request.Namespace != namespace {
		reply.Error(w, apierrors.NewBadRequest("the namespace of the object does not match the namespace of the request"))
		return
	}
	request.Namespace = namespace
	if request.Name == "" && request.GenerateName != "" {
		request.Name = request.GenerateName + rand.String(5)
	}
	request.CreationTimestamp = metav1.Now()
	if r.URL.Query().Get("dryRun") == "" {
		if request.Status.Token, err = a.sign(namespace, request.Spec.PvcName); err != nil {
			reply.Error(w, apierrors.NewInternalError(err))
			return
		}
	}
	reply.JSON(w, http.StatusCreated, request)
}

func readRequest(w http.ResponseWriter, r *http.Request) (*uploadv1.UploadTokenRequest, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, apierrors.NewBadRequest("read the request: " + err.Error())
	}
	request := &uploadv1.UploadTokenRequest{}
	if strings.Contains(r.Header.Get("Content-Type"), "yaml") {
		err = yaml.Unmarshal(body, request)
	} else {
		err = json.Unmarshal(body, request)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("the body is not an UploadTokenRequest: " + err.Error())
	}
	if request.Kind != "" && request.Kind != kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the body is a %s, want %s", request.Kind, kind))
	}
	// The version asked for is the version answered.
	request.Kind, request.APIVersion = kind, uploadapi.Group+"/"+versionOf(r)
	if problems := validation.IsDNS1123Subdomain(request.Spec.PvcName); len(problems) > 0 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.pvcName %q is not the name of a claim: %s", request.Spec.PvcName, strings.Join(problems, ", ")))
	}
	return request, nil
}

const kind = "UploadTokenRequest"

// versionOf is the API version in a request's path, /apis/GROUP/VERSION/...
func versionOf(r *http.Request) string {
	parts := strings.SplitN(r.URL.Path, "/", 5)
	if len(parts) < 5 {
		return uploadapi.Versions()[0]
	}
	return parts[3]
}
