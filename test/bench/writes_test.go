//go:build bench

package bench

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/client"
)

const (
	lives = 3
	idle  = 5
)

// write is one request that changed something, as the API server's audit log has it.
type write struct {
	Stage string    `json:"stage"`
	Verb  string    `json:"verb"`
	Agent string    `json:"userAgent"`
	At    time.Time `json:"stageTimestamp"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	// As is in whose name it was written, where a component's part is played.
	As struct {
		Username string `json:"username"`
	} `json:"impersonatedUser"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func (w write) String() string {
	resource := w.Object.Resource
	if w.Object.Subresource != "" {
		resource += "/" + w.Object.Subresource
	}
	agent, _, _ := strings.Cut(w.Agent, "/")
	return fmt.Sprintf("%s %s %s", agent, w.Verb, resource)
}

// ours tells whether a component of the platform wrote something. Access reviews are created but nothing is stored, and leases are
// what is allowed.
func (w write) ours() bool {
	changing := w.Verb == "create" || w.Verb == "update" || w.Verb == "patch" || strings.HasPrefix(w.Verb, "delete")
	who := cmp.Or(w.As.Username, w.User.Username)
	return changing && w.Stage == "ResponseComplete" && strings.HasPrefix(who, "system:serviceaccount:kubevirt:") &&
		w.Object.Resource != "leases" && !strings.HasSuffix(w.Object.Resource, "accessreviews") && w.Object.Resource != "tokenreviews"
}

// writes counts what the components write for a machine's life, and while five machines run and nobody wants anything.
func (b *bench) writes() {
	namespace := b.namespace("bench-writes")
	for i := range lives {
		b.lifeOfVM(namespace, nth(i))
	}
	b.idleMinute()
	// Read last: by now the events of the lives above have been written too.
	lived := b.audited(func(w write) bool { return w.Object.Namespace == namespace })
	b.table.add(figure{name: "API writes per VM: create, run, delete", promise: 12, unit: count, values: []float64{float64(len(lived)) / lives}, upstream: "33 to 36"})
	b.table.note("API writes of %d VMs' lives: %s", lives, tally(lived))
}

func (b *bench) lifeOfVM(namespace, name string) {
	b.Helper()
	_, err := b.client.VMs(namespace).Create(b.ctx, b.vm(namespace, name), false)
	b.check(err)
	b.virtctl("-n", namespace, "wait", name, "--for", "ready", "--timeout", "1m")
	b.awaitConsole(namespace, name, loginPrompt)
	b.check(b.client.VMs(namespace).Delete(b.ctx, name, metav1.DeleteOptions{}))
	b.virtctl("-n", namespace, "wait", name, "--for", "deleted", "--timeout", "1m")
	b.awaitNoPods(namespace)
}

// idleMinute counts the writes of one minute with five machines that run and do nothing.
func (b *bench) idleMinute() {
	b.Helper()
	namespace := b.namespace("bench-idle")
	for i := range idle {
		_, err := b.client.VMIs(namespace).Create(b.ctx, b.vmi(namespace, nth(i)), false)
		b.check(err)
	}
	b.awaitRunning(namespace, client.ListOptions{}, idle)
	for i := range idle {
		b.awaitConsole(namespace, nth(i), loginPrompt)
	}
	// Two deliberate windows, not waits for something: the starts' last news (a guest's address) settle, then a minute is measured.
	b.window(10 * time.Second)
	start := time.Now()
	b.window(time.Minute)
	end := time.Now()
	written := b.audited(func(w write) bool { return w.At.After(start) && w.At.Before(end) })
	b.table.add(figure{name: "writes in an idle minute, 5 VMs, no leases", promise: 0, unit: count, values: []float64{float64(len(written))}, upstream: "about 150"})
	b.table.note("writes of the idle minute: %s", tally(written))
	for i := range idle {
		b.check(b.client.VMIs(namespace).Delete(b.ctx, nth(i), metav1.DeleteOptions{}))
	}
	b.awaitNoPods(namespace)
}

func (b *bench) window(length time.Duration) {
	b.Helper()
	select {
	case <-time.After(length):
	case <-b.ctx.Done():
		b.Fatal(b.ctx.Err())
	}
}

// audited reads the components' writes that the filter chooses from the API server's audit log.
func (b *bench) audited(filter func(write) bool) []write {
	b.Helper()
	file, err := os.Open(b.cluster.AuditLog())
	b.check(err)
	defer file.Close()
	var chosen []write
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		var w write
		// The last line may be half written.
		if json.Unmarshal(lines.Bytes(), &w) == nil && w.ours() && filter(w) {
			chosen = append(chosen, w)
		}
	}
	b.check(lines.Err())
	return chosen
}

// tally groups writes by user agent, verb and resource.
func tally(all []write) string {
	counts := map[string]int{}
	for _, w := range all {
		counts[w.String()]++
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[what], what))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
