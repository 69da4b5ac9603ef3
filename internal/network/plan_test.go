package network

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

func testVMI(binding v1.InterfaceBindingMethod) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "4c1f0f3a"}}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "default", InterfaceBindingMethod: binding}}
	vmi.Spec.Networks = []v1.Network{{Name: "default", NetworkSource: v1.NetworkSource{Pod: &v1.PodNetwork{}}}}
	return vmi
}

func testPod() Pod {
	return Pod{
		Links: []Link{
			{
				Name: "eth0", MAC: "0a:58:0a:f4:00:05", MTU: 1450,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.0.5/24"), netip.MustParsePrefix("fd00:10:244::5/64")},
				Routes: []Route{
					{Dst: netip.MustParsePrefix("10.244.0.0/24")},
					{Dst: netip.MustParsePrefix("10.96.0.0/12"), Gateway: netip.MustParseAddr("10.244.0.1")},
					{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.244.0.1")},
				},
			},
			{Name: SecondaryLink("blue"), MAC: "0a:00:00:00:00:01", MTU: 9000},
			{Name: "net2", MAC: "0a:00:00:00:00:02", MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("192.168.7.2/24")}},
		},
		Resolver: Resolver{Servers: []string{"10.96.0.10"}, Search: []string{"default.svc.cluster.local"}},
		Attachments: map[string]string{
			"": "eth0", "default/green": "net2",
		},
	}
}

// The plans are what guests' networks are made from; a change here changes every guest.
func TestMakePlan(t *testing.T) {
	yes := true
	masquerade := v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}}
	for name, change := range map[string]func(*v1.VirtualMachineInstance, *Pod){
		"masquerade": func(*v1.VirtualMachineInstance, *Pod) {},
		"masquerade-ports": func(vmi *v1.VirtualMachineInstance, pod *Pod) {
			iface := &vmi.Spec.Domain.Devices.Interfaces[0]
			iface.MacAddress = "DE-AD-00-00-BE-AF"
			iface.Ports = []v1.Port{{Port: 22}, {Port: 53, Protocol: "UDP"}}
			iface.PortRanges = []v1.PortRange{{Protocol: "TCP", Start: 8000, End: 8010}}
			vmi.Spec.Networks[0].Pod.VMNetworkCIDR = "172.20.0.0/24"
			pod.Links[0].Addrs = pod.Links[0].Addrs[:1]
		},
		"bridge": func(vmi *v1.VirtualMachineInstance, _ *Pod) {
			vmi.Spec.Hostname = "front"
			vmi.Spec.Domain.Devices.Interfaces[0].InterfaceBindingMethod = v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}
			vmi.Spec.Domain.Devices.Interfaces[0].DHCPOptions = &v1.DHCPOptions{
				BootFileName: "pxe.0", TFTPServerName: "10.0.0.9", NTPServers: []string{"10.0.0.8"},
				PrivateOptions: []v1.DHCPPrivateOptions{{Option: 240, Value: "x"}},
			}
		},
		"several": func(vmi *v1.VirtualMachineInstance, _ *Pod) {
			vmi.Spec.Domain.Devices.NetworkInterfaceMultiQueue = &yes
			vmi.Spec.Domain.CPU = &v1.CPU{Cores: 3}
			bridge := v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}
			vmi.Spec.Domain.Devices.Interfaces = append(vmi.Spec.Domain.Devices.Interfaces,
				v1.Interface{Name: "blue", InterfaceBindingMethod: bridge, State: v1.InterfaceStateLinkDown},
				v1.Interface{Name: "green", InterfaceBindingMethod: bridge, Model: "e1000e"},
				v1.Interface{Name: "gone", InterfaceBindingMethod: bridge, State: v1.InterfaceStateAbsent},
			)
			for _, n := range []string{"blue", "green"} {
				vmi.Spec.Networks = append(vmi.Spec.Networks, v1.Network{
					Name: n, NetworkSource: v1.NetworkSource{Multus: &v1.MultusNetwork{NetworkName: n}},
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			vmi, pod := testVMI(masquerade), testPod()
			change(vmi, &pod)
			plan, err := MakePlan(vmi, pod)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", plan)
		})
	}
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (refresh with UPDATE=1 go test):\n%s", path, d)
	}
}

// A user must learn which interface is wrong and what to do.
func TestMakePlanRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1.VirtualMachineInstance, *Pod)
		want   string
	}{
		"no network":  {func(vmi *v1.VirtualMachineInstance, _ *Pod) { vmi.Spec.Networks = nil }, "add it to spec.networks"},
		"no link":     {func(_ *v1.VirtualMachineInstance, p *Pod) { p.Links = nil }, "the pod has no link eth0"},
		"no address":  {func(_ *v1.VirtualMachineInstance, p *Pod) { p.Links[0].Addrs = nil }, "has no address"},
		"no binding":  {func(vmi *v1.VirtualMachineInstance, _ *Pod) { vmi.Spec.Domain.Devices.Interfaces[0].Masquerade = nil }, "add masquerade: {}"},
		"small CIDR":  {func(vmi *v1.VirtualMachineInstance, _ *Pod) { vmi.Spec.Networks[0].Pod.VMNetworkCIDR = "10.0.2.0/31" }, "no room"},
		"broken CIDR": {func(vmi *v1.VirtualMachineInstance, _ *Pod) { vmi.Spec.Networks[0].Pod.VMNetworkCIDR = "ten" }, "is not a network"},
		"wrong family": {
			func(vmi *v1.VirtualMachineInstance, _ *Pod) {
				vmi.Spec.Networks[0].Pod.VMIPv6NetworkCIDR = "10.0.3.0/24"
			},
			"wrong address family",
		},
	} {
		t.Run(name, func(t *testing.T) {
			vmi, pod := testVMI(v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}}), testPod()
			c.change(vmi, &pod)
			_, err := MakePlan(vmi, pod)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "interfaces[default]") {
				t.Errorf("got %v, want %q for interfaces[default]", err, c.want)
			}
		})
	}
}

// Names longer than the kernel's limit would make every VM with such a link fail.
func TestNamesFit(t *testing.T) {
	for _, n := range []names{namesFor("eth0", "default", true), namesFor("averylongname15", "x", true), namesFor("net1", "blue", false)} {
		for _, s := range []string{n.bridge, n.tap} {
			if len(s) > 15 || s == "" {
				t.Errorf("name %q does not fit", s)
			}
		}
	}
	for _, link := range []string{"eth0", "averylongname15", SecondaryLink("blue")} {
		if k := keeperOf(link); len(k) > 15 || !ours(k) {
			t.Errorf("keeper %q of %s does not fit", k, link)
		}
	}
}

func TestDerivedMAC(t *testing.T) {
	a, b := derivedMAC("uid/default"), derivedMAC("uid/other")
	if a == b || a != derivedMAC("uid/default") || !strings.HasPrefix(a, "02:") {
		t.Errorf("derived %s and %s", a, b)
	}
}

func TestAttachments(t *testing.T) {
	got, err := Attachments(`[{"name":"cbr0","interface":"eth0","default":true},{"name":"default/green","interface":"net2"}]`)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"": "eth0", "default/green": "net2"}, got); d != "" {
		t.Error(d)
	}
	if _, err := Attachments("{"); err == nil {
		t.Error("a broken annotation passed")
	}
}

func TestParseResolver(t *testing.T) {
	got := ParseResolver(strings.NewReader(`# comment
search default.svc.cluster.local svc.cluster.local bad_name.example. -evil;rm
nameserver 10.96.0.10
nameserver 127.0.0.53
nameserver fd00::a
nameserver fe80::1%eth0
options ndots:5
`))
	want := Resolver{
		Servers: []string{"10.96.0.10", "fd00::a"},
		Search:  []string{"default.svc.cluster.local", "svc.cluster.local", "bad_name.example"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What a pod writes into its resolv.conf reaches guests; it must stay small and well-formed whatever it is.
func FuzzParseResolver(f *testing.F) {
	f.Add("nameserver 10.0.0.1\nsearch a b c\n")
	f.Add("search " + strings.Repeat("x.", 4000))
	f.Fuzz(func(t *testing.T, s string) {
		r := ParseResolver(strings.NewReader(s))
		if len(r.Servers) > maxServers || len(r.Search) > maxSearch {
			t.Fatalf("unbounded: %+v", r)
		}
		for _, n := range r.Search {
			if !domainName(n) {
				t.Fatalf("passed %q", n)
			}
		}
	})
}

func FuzzAttachments(f *testing.F) {
	f.Add(`[{"name":"a","interface":"b"}]`)
	f.Fuzz(func(_ *testing.T, s string) { _, _ = Attachments(s) })
}

// A guest that comes from another node has the card it had there, whatever the link of its new pod is called by.
func TestCardStaysWithTheGuest(t *testing.T) {
	vmi := testVMI(v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}})
	vmi.Status.Interfaces = []v1.VirtualMachineInstanceNetworkInterface{{Name: "default", MAC: "06:a5:ee:e5:49:63"}}
	plan, err := MakePlan(vmi, testPod())
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.Interfaces[0].MAC; got != "06:a5:ee:e5:49:63" {
		t.Errorf("the guest's card is %s", got)
	}
	vmi.Spec.Domain.Devices.Interfaces[0].MacAddress = "06:00:00:00:00:01"
	if plan, err = MakePlan(vmi, testPod()); err != nil || plan.Interfaces[0].MAC != "06:00:00:00:00:01" {
		t.Errorf("what its owner says counts first: %v, %v", plan, err)
	}
}
