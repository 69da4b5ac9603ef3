package testapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"virtctl/internal/cdi/uploadapi"
)

// Buckets of the disks.
const (
	dataVolumeBucket = "cdi.kubevirt.io/v1beta1/datavolumes"
	claimBucket      = "v1/persistentvolumeclaims"
	eventBucket      = "v1/events"
)

const uploadRoot = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/"

// uploads are the upload servers of all claims, and what goes wrong in them.
type uploads struct {
	mu      sync.Mutex
	arrived *sync.Cond
	disks   map[string]*disk
	tokens  int
	plan    UploadPlan
}

// UploadPlan says what happens to uploads.
type UploadPlan struct {
	// CutAt breaks the connection once when that much of the content has arrived; HoldAt stops reading there until the client goes.
	CutAt, HoldAt int
	// Stuck disks never get an upload server; the text is why.
	Stuck string
	// Fails disks end with phase Failed after everything has arrived; the text is why.
	Fails string
	// Damaged content gets another digest on its way.
	Damaged bool
	// Plain servers know nothing of resuming: they are upstream's.
	Plain bool
	// Direct says what a client finds that means to call the upload server itself; empty servers know nothing of that.
	Direct string
}

// disk is what one upload server has.
type disk struct {
	data     []byte
	identity string
	done     bool
}

func newUploads() *uploads {
	u := &uploads{disks: map[string]*disk{}}
	u.arrived = sync.NewCond(&u.mu)
	return u
}

// PlanUploads says what happens to uploads from now on.
func (s *Server) PlanUploads(p UploadPlan) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	s.uploads.plan = p
}

// Arrived waits until n bytes of a claim's content are there.
func (s *Server) Arrived(ctx context.Context, claim string, n int) error {
	u := s.uploads
	stop := context.AfterFunc(ctx, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.arrived.Broadcast()
	})
	defer stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.disks[claim] == nil || len(u.disks[claim].data) < n {
		if ctx.Err() != nil {
			return fmt.Errorf("claim %s never got %d bytes", claim, n)
		}
		u.arrived.Wait()
	}
	return nil
}

// Content is what a claim holds.
func (s *Server) Content(claim string) []byte {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	if d := s.uploads.disks[claim]; d != nil {
		return d.data
	}
	return nil
}

// upload answers the requests of uploads, through the proxy or through the API server; false when this is none.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) bool {
	claim, verb := "", ""
	if rest, found := strings.CutPrefix(r.URL.Path, "/v1beta1/"); found {
		// The token's first part names the claim.
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer upload-token:")
		claim, _, _ = strings.Cut(token, ":")
		verb = rest
	} else if rest, found := strings.CutPrefix(r.URL.Path, uploadRoot); found {
		parts := strings.Split(rest, "/")
		if len(parts) != 5 || parts[1] != "uploads" || parts[3] != "proxy" {
			return false
		}
		claim, verb = parts[2], parts[4]
	} else {
		return false
	}
	if f := s.failing(r); f != nil {
		http.Error(w, f.message, f.code)
		return true
	}
	if claim == "" || r.Header.Get("Authorization") == "" {
		http.Error(w, "invalid token", http.StatusUnauthorized)
		return true
	}
	if verb == uploadapi.Direct && r.Method == http.MethodPost {
		s.direct(w, r, claim)
		return true
	}
	if verb != "upload" && verb != "upload-async" {
		http.NotFound(w, r)
		return true
	}
	s.note(r, nil)
	if r.Method == http.MethodHead {
		s.uploads.head(w, claim)
	} else {
		s.take(w, r, claim)
	}
	return true
}

// head says how far a disk is.
func (u *uploads) head(w http.ResponseWriter, claim string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.disks[claim]
	switch {
	case d != nil && d.done:
		w.WriteHeader(http.StatusConflict)
	case u.plan.Plain:
		w.WriteHeader(http.StatusOK)
	case d == nil:
		w.Header().Set("Upload-Offset", "0")
	default:
		w.Header().Set("Upload-Offset", strconv.Itoa(len(d.data)))
		w.Header().Set("Upload-Identity", d.identity)
	}
}

// begin finds the disk to write to, from where the client says.
func (u *uploads) begin(r *http.Request, claim string) (*disk, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.disks[claim]
	if d == nil {
		d = &disk{}
		u.disks[claim] = d
	}
	if d.done {
		return nil, len(d.data)
	}
	offset := r.Header.Get("Upload-Offset")
	same := r.Header.Get("Upload-Identity") == d.identity
	if offset == "" || offset == "0" && !same {
		d.data = nil
	} else if offset != strconv.Itoa(len(d.data)) || !same {
		return nil, len(d.data)
	}
	d.identity = r.Header.Get("Upload-Identity")
	return d, 0
}

// take reads a body.
func (s *Server) take(w http.ResponseWriter, r *http.Request, claim string) {
	d, stands := s.uploads.begin(r, claim)
	if d == nil {
		w.Header().Set("Upload-Offset", strconv.Itoa(stands))
		http.Error(w, "the server stands elsewhere", http.StatusConflict)
		return
	}
	buffer := make([]byte, 4096)
	for {
		n, err := r.Body.Read(buffer)
		if !s.uploads.store(r, d, buffer[:n]) {
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			if err == io.EOF {
				break
			}
			return
		}
	}
	sum := sha256.Sum256(d.data)
	if s.uploads.plan.Damaged {
		sum[0] ^= 1
	}
	if !s.uploads.plan.Plain {
		w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	}
	s.finish(claim, d, "sha256:"+hex.EncodeToString(sum[:]))
	w.WriteHeader(http.StatusOK)
}

// store keeps a piece; false breaks the connection as planned.
func (u *uploads) store(r *http.Request, d *disk, piece []byte) bool {
	u.mu.Lock()
	for len(piece) > 0 {
		// Content arrives byte by byte where something happens at a byte.
		n := len(piece)
		for _, mark := range []int{u.plan.CutAt, u.plan.HoldAt} {
			if mark > len(d.data) {
				n = min(n, mark-len(d.data))
			}
		}
		d.data, piece = append(d.data, piece[:n]...), piece[n:]
		u.arrived.Broadcast()
		if u.plan.CutAt > 0 && len(d.data) == u.plan.CutAt {
			u.plan.CutAt = 0
			u.mu.Unlock()
			return false
		}
		if u.plan.HoldAt > 0 && len(d.data) == u.plan.HoldAt {
			u.plan.HoldAt = 0
			u.mu.Unlock()
			// Only who reads notices that the other end has gone.
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				<-r.Context().Done()
			}
			return false
		}
	}
	u.mu.Unlock()
	return true
}

// finish says that the disk is complete, as the controller does.
func (s *Server) finish(claim string, d *disk, digest string) {
	s.uploads.mu.Lock()
	d.done = true
	fails := s.uploads.plan.Fails
	s.uploads.mu.Unlock()
	pvc, ok := s.store.get(claimBucket, "default", claim)
	if !ok {
		return
	}
	phase := "Succeeded"
	if fails != "" {
		phase = "Failed"
	} else {
		annotate(pvc, "cdi.kubevirt.io/storage.pod.phase", phase)
		annotate(pvc, "virtctl.io/content-digest", digest)
		annotate(pvc, "virtctl.io/content-length", strconv.Itoa(len(d.data)))
	}
	annotate(pvc, "cdi.kubevirt.io/storage.pod.ready", "false")
	s.store.put(claimBucket, pvc)
	if dv, ok := s.store.get(dataVolumeBucket, "default", claim); ok {
		statusOf(dv)["phase"] = phase
		if fails != "" {
			statusOf(dv)["conditions"] = []any{condition("Running", "False", "Error", fails)}
		}
		s.store.put(dataVolumeBucket, dv)
	}
}

func annotate(object Object, name, value string) {
	meta := metaOf(object)
	annotations, ok := meta["annotations"].(Object)
	if !ok {
		annotations = Object{}
		meta["annotations"] = annotations
	}
	annotations[name] = value
}

// token answers a request for the right to upload.
func (s *Server) token(w http.ResponseWriter, object Object) {
	spec, _ := object["spec"].(Object)
	s.uploads.mu.Lock()
	s.uploads.tokens++
	number := s.uploads.tokens
	s.uploads.mu.Unlock()
	object["status"] = Object{"token": fmt.Sprintf("upload-token:%s:%d", text(spec, "pvcName"), number)}
	answer(w, http.StatusCreated, object)
}

// provide does what the controller does about a new data volume or a claim that asks to be filled.
func (s *Server) provide(q request, object Object) {
	s.uploads.mu.Lock()
	stuck := s.uploads.plan.Stuck
	s.uploads.mu.Unlock()
	meta := metaOf(object)
	name, namespace := text(meta, "name"), text(meta, "namespace")
	if stuck != "" {
		s.store.put(eventBucket, Object{
			"apiVersion": "v1", "kind": "Event", "metadata": Object{"name": name + ".1", "namespace": namespace},
			"involvedObject": Object{"kind": "PersistentVolumeClaim", "name": name}, "type": "Warning", "reason": "ProvisioningFailed", "message": stuck,
			"lastTimestamp": "2100-01-01T00:00:00Z",
		})
		return
	}
	if q.bucket == claimBucket {
		annotations, _ := meta["annotations"].(Object)
		if _, asks := annotations["cdi.kubevirt.io/storage.upload.target"]; asks && annotations["cdi.kubevirt.io/storage.pod.ready"] == nil {
			annotate(object, "cdi.kubevirt.io/storage.pod.ready", "true")
			s.store.put(claimBucket, object)
		}
		return
	}
	spec, _ := object["spec"].(Object)
	source, _ := spec["source"].(Object)
	storage, _ := spec["storage"].(Object)
	claim := Object{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": Object{"name": name, "namespace": namespace},
		"spec": clone(storage), "status": Object{"phase": "Bound"},
	}
	if _, upload := source["upload"]; upload {
		annotate(claim, "cdi.kubevirt.io/storage.upload.target", "")
		annotate(claim, "cdi.kubevirt.io/storage.pod.ready", "true")
		s.store.put(claimBucket, claim)
		statusOf(object)["phase"] = "UploadReady"
	} else {
		annotate(claim, "cdi.kubevirt.io/storage.pod.phase", "Succeeded")
		s.store.put(claimBucket, claim)
		statusOf(object)["phase"], statusOf(object)["progress"] = "Succeeded", "100.0%"
	}
	s.store.put(dataVolumeBucket, object)
}
