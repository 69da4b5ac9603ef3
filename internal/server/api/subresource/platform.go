package subresource

import (
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/reply"
	"virtctl/internal/version"
)

func (s *Server) version(r *request) error {
	reply.JSON(r.ResponseWriter, http.StatusOK, version.Get())
	return nil
}

// guestfsImage is what virtctl guestfs asks for.
type guestfsImage struct {
	Registry    string `json:"registry"`
	Tag         string `json:"tag"`
	Digest      string `json:"digest,omitempty"`
	ImagePrefix string `json:"imagePrefix"`
	GsImage     string `json:"gsImage,omitempty"`
}

func (s *Server) guestFS(r *request) error {
	kv, err := s.kubevirt(r)
	if err != nil {
		return err
	}
	image := guestfsImage{Registry: kv.Status.ObservedKubeVirtRegistry, Tag: kv.Status.ObservedKubeVirtVersion}
	deployed := struct {
		Registry, ImagePrefix, KubeVirtVersion, GsImage string
	}{}
	if config := kv.Status.ObservedDeploymentConfig; config != "" {
		if err := json.Unmarshal([]byte(config), &deployed); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("status.observedDeploymentConfig of KubeVirt %s/%s: %w", kv.Namespace, kv.Name, err))
		}
		image.ImagePrefix, image.GsImage = deployed.ImagePrefix, deployed.GsImage
		if deployed.Registry != "" {
			image.Registry = deployed.Registry
		}
		if deployed.KubeVirtVersion != "" {
			image.Tag = deployed.KubeVirtVersion
		}
	}
	reply.JSON(r.ResponseWriter, http.StatusOK, image)
	return nil
}

func (s *Server) kubevirt(r *request) (*v1.KubeVirt, error) {
	list := &v1.KubeVirtList{}
	if err := s.KubeVirts.List(r.Context(), list); err != nil {
		return nil, fmt.Errorf("look for the KubeVirt object: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, apierrors.NewInternalError(fmt.Errorf("there is no KubeVirt object; install the platform with virtctl install"))
	}
	return &list.Items[0], nil
}

func (s *Server) healthz(r *request) error {
	apiserver := map[string]any{"connectivity": "ok"}
	code := http.StatusOK
	release, err := s.Healthy(r.Context())
	if err != nil {
		apiserver["connectivity"], apiserver["error"], code = "failed", err.Error(), http.StatusInternalServerError
	} else {
		apiserver["version"] = release
	}
	answer := map[string]any{"apiserver": apiserver}
	if kv, err := s.kubevirt(r); err == nil {
		answer["config-resource-version"] = kv.ResourceVersion
	}
	reply.JSON(r.ResponseWriter, code, answer)
	return nil
}
