//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"virtctl/internal/images"
)

// TestBlockThenBoot: a disk can be a block device of its own, without a file system between.
func TestBlockThenBoot(t *testing.T) {
	j := start(t)
	j.virtctl("image-upload", "dv", "device", "--image-path", j.guestDisk(), "--volume-mode", "block")
	j.want("volume mode", j.kubectl("get", "pvc", "device", "-o", "jsonpath={.spec.volumeMode}"), "Block")
	j.bootFrom("device", "device")
}

// TestRegistryThenBoot: a container disk in a registry becomes a claim.
func TestRegistryThenBoot(t *testing.T) {
	j := start(t)
	source := j.registry()
	source.push("1", nil)
	j.kubectlIn(dataVolume("pulled", fmt.Sprintf("registry: {url: %q}", source.url("1"))), "apply", "-f", "-")
	j.ready("pulled")
	j.bootFrom("pulled", "pulled")
}

// TestS3ThenBoot: an object in a bucket becomes a claim, with the credentials of a Secret, and not without them.
func TestS3ThenBoot(t *testing.T) {
	j := start(t)
	disk, err := os.Open(j.guestDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	stat, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	backend := s3mem.New()
	if err := backend.CreateBucket(t.Context(), "images"); err != nil {
		t.Fatal(err)
	}
	if _, err := backend.PutObject(t.Context(), "images", "demo.qcow2", map[string]string{}, disk, stat.Size()); err != nil {
		t.Fatal(err)
	}
	object := j.serve(gofakes3.New(backend, gofakes3.WithV4Auth(map[string]string{"reader": "secret"})).Server()) + "/images/demo.qcow2"
	j.kubectl("create", "secret", "generic", "keys", "--from-literal=accessKeyId=reader", "--from-literal=secretKey=secret")
	j.kubectlIn(dataVolume("stranger", fmt.Sprintf("s3: {url: %q}", object)), "apply", "-f", "-")
	j.kubectlIn(dataVolume("object", fmt.Sprintf("s3: {url: %q, secretRef: keys}", object)), "apply", "-f", "-")
	j.ready("object")
	j.kubectl("wait", "dv/stranger", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
	j.bootFrom("object", "object")
}

// TestPopulatorThenBoot: a claim of a user's own that names an import is filled before anybody can use it.
func TestPopulatorThenBoot(t *testing.T) {
	j := start(t)
	disk := j.guestDisk()
	j.kubectlIn(fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: VolumeImportSource
metadata: {name: web}
spec:
  source:
    http: {url: %q}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: own, annotations: {cdi.kubevirt.io/storage.bind.immediate.requested: ""}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 256Mi}}
  dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeImportSource, name: web}
`, j.serve(http.FileServer(http.Dir(filepath.Dir(disk))))+"/"+filepath.Base(disk)), "apply", "-f", "-")
	j.kubectl("wait", "pvc/own", "--for=jsonpath={.status.phase}=Bound", "--timeout=120s")
	j.bootFrom("populated", "own")
	j.want("claims that are left", j.kubectl("get", "pvc", "-o", "name"), "persistentvolumeclaim/own")
}

// TestTemplateThenBoot: a machine that brings its disk with it starts when the disk is there, and takes it away at the end. The quota
// of its namespace has room for that one claim.
func TestTemplateThenBoot(t *testing.T) {
	j := start(t)
	j.kubectlIn(`apiVersion: v1
kind: ResourceQuota
metadata: {name: one}
spec:
  hard: {persistentvolumeclaims: "1", requests.storage: 272Mi}
`, "apply", "-f", "-")
	disk := j.guestDisk()
	address := j.serve(http.FileServer(http.Dir(filepath.Dir(disk)))) + "/" + filepath.Base(disk)
	j.kubectlIn(j.virtctl("create", "vm", "--name", "whole", "--memory", "128Mi", "--run-strategy", "Always",
		"--volume-import", "type:http,name:root,size:256Mi,url:"+address, "--termination-grace-period", "20"), "apply", "-f", "-")
	j.virtctl("wait", "whole", "--for", "running", "--timeout", "120s")
	j.awaitConsole("whole", "Welcome to the demo guest")
	j.kubectl("delete", "vm", "whole", "--timeout=60s")
	j.kubectl("wait", "dv,pvc", "--all", "--for=delete", "--timeout=60s")
}

// TestCloneOfAnothersDisk: another namespace's disk is refused to who may not read it, and copied for who was allowed to.
func TestCloneOfAnothersDisk(t *testing.T) {
	owner := start(t)
	borrower := owner.neighbour()
	owner.virtctl("image-upload", "dv", "golden", "--image-path", owner.guestDisk())
	borrower.kubectl("create", "rolebinding", "ann", "--clusterrole=admin", "--user=ann")
	clone := dataVolume("copy", fmt.Sprintf("pvc: {namespace: %s, name: golden}", owner.namespace))
	if r := borrower.kubectlTry(clone, "apply", "-f", "-", "--as=ann"); r.Code == 0 || !strings.Contains(r.Stderr, owner.namespace) {
		t.Errorf("without permission: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	owner.kubectl("create", "rolebinding", "lent", "--clusterrole=cdi.kubevirt.io:clone-sourcer", "--user=ann")
	borrower.kubectlIn(clone, "apply", "-f", "-", "--as=ann")
	borrower.ready("copy")
	borrower.bootFrom("copy", "copy")
}

// TestBootSourceStaysFresh: an image that is replaced in its registry becomes the boot source, and the old one goes.
func TestBootSourceStaysFresh(t *testing.T) {
	j := start(t)
	source := j.registry()
	first := source.push("latest", nil)
	j.kubectlIn(fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: DataImportCron
metadata: {name: demo}
spec:
  schedule: "0 0 1 1 *"
  managedDataSource: demo
  importsToKeep: 1
  template:
    spec:
      source:
        registry: {url: %q}
      storage: {resources: {requests: {storage: 256Mi}}}
`, source.url("latest")), "apply", "-f", "-")
	upToDate := func(digest v1.Hash) string {
		claim := "demo-" + digest.Hex[:12]
		j.kubectl("wait", "datasource/demo", "--for=jsonpath={.spec.source.pvc.name}="+claim, "--timeout=120s")
		j.kubectl("wait", "datasource/demo", "--for=condition=Ready", "--timeout=120s")
		return claim
	}
	old := upToDate(first)
	second := source.push("latest", map[string]string{"release": "2"})
	// The hour has come.
	j.kubectl("annotate", "dataimportcron/demo", "--overwrite", "cdi.kubevirt.io/storage.import.nextCronTime=2020-01-01T00:00:00Z")
	fresh := upToDate(second)
	j.kubectl("wait", "dv/"+old, "--for=delete", "--timeout=60s")
	j.want("claims that are left", j.kubectl("get", "pvc", "-o", "jsonpath={.items[*].metadata.name}"), fresh)
	j.kubectlIn(j.virtctl("create", "vm", "--name", "fresh", "--memory", "128Mi", "--run-strategy", "Always",
		"--volume-import", "type:ds,src:demo,name:root", "--termination-grace-period", "20"), "apply", "-f", "-")
	j.virtctl("wait", "fresh", "--for", "running", "--timeout", "120s")
	j.awaitConsole("fresh", "Welcome to the demo guest")
}

// TestTooSmallIsRefusedUpFront: an image that cannot fit is not sent, and nothing is made for it.
func TestTooSmallIsRefusedUpFront(t *testing.T) {
	j := start(t)
	r := j.try("", "image-upload", "dv", "tight", "--image-path", j.guestDisk(), "--size", "1Mi")
	if r.Code == 0 || !strings.Contains(r.Stderr, "too small") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	j.want("what was made", j.kubectl("get", "dv,pvc", "-o", "name"), "")
}

// neighbour is another namespace of the same test.
func (j *journey) neighbour() *journey {
	j.Helper()
	other := &journey{j.T, j.namespace + "-other"}
	j.kubectl("create", "namespace", other.namespace)
	j.Cleanup(func() { other.kubectl("delete", "namespace", other.namespace, "--wait=false") })
	return other
}

// ready waits for a DataVolume's disk; it says why there is none.
func (j *journey) ready(name string) {
	j.Helper()
	if r := j.kubectlTry("", "wait", "dv/"+name, "--for=condition=Ready", "--timeout=120s"); r.Code != 0 {
		j.Fatalf("%s is not ready: %s\n%s", name, r.Stderr, j.virtctl("describe", "dv", name))
	}
}

// source is a registry with the demo guest's disk.
type source struct {
	*journey
	host  string
	image v1.Image
}

func (j *journey) registry() *source {
	j.Helper()
	archive, err := images.Read(filepath.Join(shared.Root, "out/images/demo.tar"))
	if err != nil {
		j.Fatal(err)
	}
	j.Cleanup(func() { _ = archive.Close() })
	address, err := url.Parse(j.serve(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	if err != nil {
		j.Fatal(err)
	}
	return &source{j, address.Host, archive.Images[0].V1()}
}

func (s *source) url(tag string) string { return "docker://" + s.host + "/disks/demo:" + tag }

// push puts the disk into the registry; with other labels it is another image.
func (s *source) push(tag string, labels map[string]string) v1.Hash {
	s.Helper()
	file, err := s.image.ConfigFile()
	if err != nil {
		s.Fatal(err)
	}
	config := file.Config.DeepCopy()
	config.Labels = labels
	image, err := mutate.Config(s.image, *config)
	if err != nil {
		s.Fatal(err)
	}
	at, err := name.ParseReference(s.host+"/disks/demo:"+tag, name.Insecure)
	if err != nil {
		s.Fatal(err)
	}
	if err := remote.Write(at, image, remote.WithContext(context.Background())); err != nil {
		s.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		s.Fatal(err)
	}
	return digest
}
