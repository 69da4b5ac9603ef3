package review

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// volumeSource judges where a DataVolume's bytes come from.
func volumeSource(at *field.Path, spec *cdiv1.DataVolumeSpec) []metav1.StatusCause {
	s := spec.Source
	sources := cdiv1.ImportSourceType{
		HTTP: s.HTTP, S3: s.S3, Registry: s.Registry, GCS: s.GCS, Blank: s.Blank, Imageio: s.Imageio, VDDK: s.VDDK,
	}
	if causes := one(at, "Data volume", count(&sources)+given(s.PVC != nil, s.Snapshot != nil, s.Upload != nil)); causes != nil {
		return causes
	}
	if causes := contentType(at, spec.ContentType); causes != nil {
		return causes
	}
	if causes := importSource(at, &sources, spec.ContentType); causes != nil {
		return causes
	}
	if p := s.PVC; p != nil && (p.Namespace == "" || p.Name == "") {
		where := at.Child("source", "PVC")
		return invalid(where, "%s source PVC is not valid", where)
	}
	if p := s.Snapshot; p != nil && (p.Namespace == "" || p.Name == "") {
		where := at.Child("source", "Snapshot")
		return invalid(where, "%s source snapshot is not valid", where)
	}
	return nil
}

func given(present ...bool) int {
	n := 0
	for _, p := range present {
		if p {
			n++
		}
	}
	return n
}

func count(s *cdiv1.ImportSourceType) int {
	return given(s.HTTP != nil, s.S3 != nil, s.Registry != nil, s.GCS != nil, s.Blank != nil, s.Imageio != nil, s.VDDK != nil)
}

func one(at *field.Path, kind string, sources int) []metav1.StatusCause {
	switch {
	case sources == 0:
		return invalid(at.Child("source"), "Missing %s source", kind)
	case sources > 1:
		return invalid(at.Child("source"), "Multiple %s sources", kind)
	}
	return nil
}

func contentType(at *field.Path, content cdiv1.DataVolumeContentType) []metav1.StatusCause {
	switch content {
	case "", cdiv1.DataVolumeKubeVirt, cdiv1.DataVolumeArchive:
		return nil
	}
	return invalid(at.Child("contentType"), "ContentType not one of: %s, %s", cdiv1.DataVolumeKubeVirt, cdiv1.DataVolumeArchive)
}

// importSource judges the one source of an import that is given.
func importSource(at *field.Path, s *cdiv1.ImportSourceType, content cdiv1.DataVolumeContentType) []metav1.StatusCause {
	switch {
	case s.HTTP != nil:
		return append(address(at, "HTTP", s.HTTP.URL), checksum(at, s.HTTP.Checksum)...)
	case s.S3 != nil:
		return address(at, "S3", s.S3.URL)
	case s.GCS != nil:
		return address(at, "GCS", s.GCS.URL)
	case s.Blank != nil:
		if content == cdiv1.DataVolumeArchive {
			return invalid(at.Child("contentType"), "SourceType cannot be blank and the contentType be archive")
		}
	case s.Registry != nil:
		if content != "" && content != cdiv1.DataVolumeKubeVirt {
			return invalid(at.Child("contentType"), "ContentType must be %s when Source is Registry", cdiv1.DataVolumeKubeVirt)
		}
		return registry(at, s.Registry)
	case s.Imageio != nil:
		return imageio(at, s.Imageio)
	case s.VDDK != nil:
		v, where := s.VDDK, at.Child("source", "VDDK")
		if v.SecretRef == "" || v.UUID == "" || v.BackingFile == "" || v.Thumbprint == "" {
			return invalid(where, "%s source VDDK is not valid", where)
		}
		return address(at, "VDDK", v.URL)
	}
	return nil
}

func imageio(at *field.Path, s *cdiv1.DataVolumeSourceImageIO) []metav1.StatusCause {
	where := at.Child("source", "Imageio")
	if s.SecretRef == "" || s.DiskID == "" {
		return invalid(where, "%s source Imageio is not valid", where)
	}
	if s.CertConfigMap == "" && (s.InsecureSkipVerify == nil || !*s.InsecureSkipVerify) {
		return invalid(where, "%s source Imageio requires CertConfigMap or InsecureSkipVerify", where)
	}
	return address(at, "ImageIO", s.URL)
}

func address(at *field.Path, kind, text string) []metav1.StatusCause {
	wrong := ""
	parsed, err := url.ParseRequestURI(text)
	switch {
	case text == "":
		wrong = "source URL is empty"
	case err != nil:
		wrong = "Invalid source URL: " + text
	case parsed.Scheme != "http" && parsed.Scheme != "https" && parsed.Scheme != "gs":
		wrong = "Invalid source URL scheme: " + text
	default:
		return nil
	}
	return invalid(at.Child("source", kind, "url"), "%s %s", at.Child("source"), wrong)
}

func checksum(at *field.Path, text string) []metav1.StatusCause {
	if text == "" {
		return nil
	}
	if wrong := badChecksum(text); wrong != "" {
		return invalid(at.Child("source", "HTTP", "checksum"), "Invalid checksum format: %s", wrong)
	}
	return nil
}

func badChecksum(text string) string {
	algorithm, sum, found := strings.Cut(text, ":")
	if !found {
		return "want algorithm:hash, for example sha256:" + strings.Repeat("0", 64)
	}
	algorithm, sum = strings.ToLower(strings.TrimSpace(algorithm)), strings.ToLower(strings.TrimSpace(sum))
	length, known := map[string]int{"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}[algorithm]
	switch {
	case sum == "":
		return "checksum hash value cannot be empty"
	case !known:
		return fmt.Sprintf("unsupported hash algorithm '%s': supported algorithms are: md5, sha1, sha256, sha512", algorithm)
	case len(sum) != length:
		return fmt.Sprintf("invalid %s hash length: expected %d hex characters, got %d", algorithm, length, len(sum))
	}
	if _, err := hex.DecodeString(sum); err != nil {
		return "checksum hash is not valid hexadecimal"
	}
	return ""
}

func registry(at *field.Path, s *cdiv1.DataVolumeSourceRegistry) []metav1.StatusCause {
	where := at.Child("source", "Registry")
	if (s.URL == nil) == (s.ImageStream == nil) {
		return invalid(where, "Source registry should have either URL or ImageStream")
	}
	if s.URL != nil {
		parsed, err := url.Parse(*s.URL)
		if err != nil {
			return invalid(where.Child("URL"), "Illegal registry source URL %s", *s.URL)
		}
		if parsed.Scheme != cdiv1.RegistrySchemeDocker && parsed.Scheme != cdiv1.RegistrySchemeOci {
			return invalid(where.Child("URL"), "Illegal registry source URL scheme %s", parsed)
		}
	}
	method := cdiv1.RegistryPullPod
	if s.PullMethod != nil {
		method = *s.PullMethod
	}
	switch {
	case method != cdiv1.RegistryPullPod && method != cdiv1.RegistryPullNode:
		return invalid(where.Child("importMethod"), `ImportMethod %s is neither %s, %s or ""`, method, cdiv1.RegistryPullPod, cdiv1.RegistryPullNode)
	case s.ImageStream != nil && *s.ImageStream == "":
		return invalid(where.Child("importMethod"), "Source registry ImageStream is not valid")
	case s.ImageStream != nil && method != cdiv1.RegistryPullNode:
		return invalid(where.Child("importMethod"), "Source registry ImageStream is supported only with node pull import method")
	}
	return nil
}
