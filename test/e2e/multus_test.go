//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// The definition that Multus reads; its own comes with its daemon, and a test needs no more of it than this.
const attachmentDefinitions = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
"metadata":{"name":"network-attachment-definitions.k8s.cni.cncf.io"},"spec":{"group":"k8s.cni.cncf.io","scope":"Namespaced",
"names":{"kind":"NetworkAttachmentDefinition","plural":"network-attachment-definitions","singular":"network-attachment-definition","shortNames":["net-attach-def"]},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object",
"properties":{"config":{"type":"string"}}}}}}}]}}`

// What Multus may do: read definitions and pods, and write into a pod's annotations what it gave it.
const multusAccount = `{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"multus","namespace":"kube-system"}},
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"e2e-multus"},"rules":[
 {"apiGroups":["k8s.cni.cncf.io"],"resources":["*"],"verbs":["get","list","watch"]},
 {"apiGroups":[""],"resources":["pods","pods/status"],"verbs":["get","list","watch","update","patch"]},
 {"apiGroups":["","events.k8s.io"],"resources":["events"],"verbs":["create","patch","update"]}]},
{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"e2e-multus"},
 "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"e2e-multus"},
 "subjects":[{"kind":"ServiceAccount","name":"multus","namespace":"kube-system"}]}]}`

const (
	// lanBridge is the nodes' bridge on the second network, lanCard its port.
	lanBridge, lanCard = "lan", "lan0"
	// migrationAddresses begin the addresses on it that Multus gives.
	migrationAddresses = "192.168.88."
)

// secondNetwork gives the nodes another network between them and Multus, which puts pods on it: first for the pod's own network it asks
// the plugins that the cluster has, as on any cluster. All of it goes with the test.
func (j *journey) secondNetwork() {
	j.Helper()
	nodes := strings.Fields(j.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	j.cable(nodes)
	j.kubectlIn(attachmentDefinitions, "apply", "-f", "-")
	j.kubectlIn(multusAccount, "apply", "-n", "kube-system", "-f", "-")
	j.Cleanup(func() {
		j.kubectlIn(multusAccount, "delete", "-n", "kube-system", "-f", "-")
		j.kubectlIn(attachmentDefinitions, "delete", "-f", "-")
	})
	j.kubectl("wait", "crd/network-attachment-definitions.k8s.cni.cncf.io", "--for", "condition=Established", "--timeout", "30s")
	access := j.multusAccess()
	for i, node := range nodes {
		j.installMultus(node, access, i+1)
	}
}

// cable plugs a second card into each node.
func (j *journey) cable(nodes []string) {
	j.Helper()
	hub := shared.Bridge() + "-lan"
	ip := func(args ...string) {
		j.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			j.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("link", "add", hub, "up", "type", "bridge")
	j.Cleanup(func() { ip("link", "del", hub) })
	for i, node := range nodes {
		kubelets := processes("virt-kube kubelet --config " + filepath.Join(shared.State, "nodes", node))
		if len(kubelets) != 1 {
			j.Fatalf("%d kubelets of %s", len(kubelets), node)
		}
		port := fmt.Sprintf("%s-l%d", shared.Bridge(), i+1)
		ip("link", "add", port, "up", "master", hub, "type", "veth", "peer", "name", lanCard, "netns", fmt.Sprint(kubelets[0]))
		j.kube("node", "exec", node, "--", "sh", "-ec", fmt.Sprintf("ip link add %[1]s up type bridge; ip link set %[2]s master %[1]s up", lanBridge, lanCard))
		j.Cleanup(func() {
			j.kube("node", "exec", node, "--", "sh", "-ec", fmt.Sprintf("ip link del %s; ip link del %s; rm -rf /run/cni/networks/lan-*", lanBridge, lanCard))
		})
	}
}

// multusAccess is how Multus reaches the API server from a node.
func (j *journey) multusAccess() string {
	j.Helper()
	server := j.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
	port := server[strings.LastIndex(server, ":")+1:]
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "multus",
		"clusters": []any{map[string]any{"name": "multus", "cluster": map[string]any{
			"server":                     "https://" + hostAddress() + ":" + port,
			"certificate-authority-data": j.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"),
		}}},
		"users":    []any{map[string]any{"name": "multus", "user": map[string]any{"token": j.kubectl("create", "token", "multus", "-n", "kube-system")}}},
		"contexts": []any{map[string]any{"name": "multus", "context": map[string]any{"cluster": "multus", "user": "multus"}}},
	}
	raw, err := json.Marshal(config)
	if err != nil {
		j.Fatal(err)
	}
	return string(raw)
}

// installMultus puts Multus before the plugins of a node. Addresses are each node's own, from a file there: nothing in the cluster shares
// them out.
func (j *journey) installMultus(node, access string, number int) {
	j.Helper()
	migrations := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lan-migrations","type":"bridge","bridge":%q,"ipam":{"type":"host-local","dataDir":"/run/cni/networks",
"ranges":[[{"subnet":"%[2]s0/24","rangeStart":"%[2]s%[3]d0","rangeEnd":"%[2]s%[3]d9"}]]}}`, lanBridge, migrationAddresses, number)
	script := fmt.Sprintf(`mkdir -p /opt/cni/bin /etc/cni/multus/net.d /etc/cni/net.d/multus.d
cp %[1]s /opt/cni/bin/multus
cat > /etc/cni/net.d/multus.d/kubeconfig <<'END'
%[2]s
END
cat > /etc/cni/multus/net.d/lan-migrations.conf <<'END'
%[3]s
END
cat > /etc/cni/net.d/00-multus.conf.new <<END
{"cniVersion":"1.0.0","name":"multus","type":"multus","kubeconfig":"/etc/cni/net.d/multus.d/kubeconfig",
"confDir":"/etc/cni/multus/net.d","capabilities":{"portMappings":true},"delegates":[$(cat /etc/cni/net.d/10-virt-kube.conflist)]}
END
mv /etc/cni/net.d/00-multus.conf.new /etc/cni/net.d/00-multus.conf`, filepath.Join(shared.Root, "bin/multus"), access, migrations)
	j.kube("node", "exec", node, "--", "sh", "-ec", script)
	j.Cleanup(func() {
		j.kube("node", "exec", node, "--", "sh", "-ec", "rm -rf /etc/cni/net.d/00-multus.conf /etc/cni/net.d/multus.d /etc/cni/multus /opt/cni/bin/multus")
	})
}

// definition is a network that pods can ask for: as its own configuration says, or as a file of that name on the node.
func (j *journey) definition(namespace, name, config string) {
	j.Helper()
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": map[string]any{"config": config},
	})
	if err != nil {
		j.Fatal(err)
	}
	j.kubectlIn(string(raw), "apply", "-n", namespace, "-f", "-")
}
