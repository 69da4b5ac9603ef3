package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// answers plays an agent; a command it does not know fails.
func answers(a map[string]string) Run {
	return func(command string) ([]byte, error) {
		var c struct{ Execute string }
		if err := json.Unmarshal([]byte(command), &c); err != nil {
			return nil, err
		}
		if r, ok := a[c.Execute]; ok {
			return []byte(`{"return":` + r + `}`), nil
		}
		return nil, errors.New("the command failed")
	}
}

func guestInfo(commands ...string) string {
	var list []string
	for _, c := range commands {
		list = append(list, fmt.Sprintf(`{"name":%q,"enabled":true,"success-response":true}`, c))
	}
	return `{"version":"10.0.0","supported_commands":[` + strings.Join(list, ",") + `]}`
}

func TestCollect(t *testing.T) {
	got, err := Collect(context.Background(), answers(map[string]string{
		"guest-info": guestInfo("guest-get-host-name", "guest-get-osinfo", "guest-get-timezone", "guest-get-users", "guest-get-fsinfo",
			"guest-network-get-interfaces", "guest-fsfreeze-status", "guest-get-load"),
		"guest-get-host-name": `{"host-name":"web"}`,
		"guest-get-osinfo":    `{"id":"debian","name":"Debian","pretty-name":"Debian 13","version":"13","version-id":"13","kernel-release":"6.12","kernel-version":"#1","machine":"x86_64"}`,
		"guest-get-timezone":  `{"zone":"UTC","offset":0}`,
		"guest-get-users":     `[{"user":"root","login-time":1700000000.5,"domain":"D"}]`,
		"guest-get-fsinfo":    `[{"name":"vda1","mountpoint":"/","type":"ext4","used-bytes":1,"total-bytes":2,"disk":[{"serial":"s","bus-type":"virtio"}]}]`,
		"guest-network-get-interfaces": `[{"name":"lo","ip-addresses":[{"ip-address":"127.0.0.1"}]},
			{"name":"eth0","hardware-address":"02:AA:00:00:00:01","ip-addresses":[{"ip-address":"fe80::1"},{"ip-address":"fd10::2"},{"ip-address":"10.0.2.2"},{"ip-address":"x"}]}]`,
		"guest-fsfreeze-status": `"thawed"`,
		"guest-get-load":        `{"load1m":0.5,"load5m":0.25,"load15m":0.1}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	got.Commands = nil
	want := wire.GuestInfo{
		Hostname: "web", Timezone: "UTC, 0", AgentVersion: "10.0.0", FSFreeze: "thawed", Load: []float64{0.5, 0.25, 0.1},
		OS: wire.GuestOS{
			ID: "debian", Name: "Debian", PrettyName: "Debian 13", Version: "13", VersionID: "13", KernelRelease: "6.12", KernelVersion: "#1", Machine: "x86_64",
		},
		Users:      []wire.GuestUser{{Name: "root", Domain: "D", LoginTime: 1700000000.5}},
		Disks:      []wire.GuestFS{{Disk: "vda1", MountPoint: "/", Type: "ext4", UsedBytes: 1, TotalBytes: 2, Devices: []wire.GuestFSDisk{{Serial: "s", BusType: "virtio"}}}},
		Interfaces: []wire.GuestInterface{{Name: "eth0", MAC: "02:aa:00:00:00:01", IPs: []string{"10.0.2.2", "fd10::2", "fe80::1"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// A guest that reports a million interfaces must not grow the API object (CVE-2025-14525).
func TestAHostileAgentIsBounded(t *testing.T) {
	var interfaces, users []string
	for i := range 5000 {
		interfaces = append(interfaces, fmt.Sprintf(`{"name":"e%d\u0000\u001b[31m%s","ip-addresses":[%s]}`, i, strings.Repeat("x", 10), strings.Repeat(`{"ip-address":"10.0.0.1"},`, 3)+`{"ip-address":"10.0.0.2"}`))
		users = append(users, fmt.Sprintf(`{"user":%q}`, strings.Repeat("u", 1)))
	}
	got, err := Collect(context.Background(), answers(map[string]string{
		"guest-info":                   guestInfo("guest-network-get-interfaces", "guest-get-users", "guest-get-host-name", "guest-get-osinfo", "guest-get-fsinfo"),
		"guest-network-get-interfaces": "[" + strings.Join(interfaces, ",") + "]",
		"guest-get-users":              "[" + strings.Join(users, ",") + "]",
		"guest-get-host-name":          fmt.Sprintf(`{"host-name":%q}`, strings.Repeat("h", 1<<16)),
		"guest-get-osinfo":             `{"id":{"deep":[1,2,3]},"name":"fine"}`,
		"guest-get-fsinfo":             `[` + strings.Repeat(" ", maxAnswer) + `]`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Interfaces) != maxInterfaces || len(got.Users) != maxUsers || len(got.Hostname) != maxString || got.OS.Name != "fine" || got.OS.ID != "" || got.Disks != nil {
		t.Fatalf("%d interfaces, %d users, %d bytes of host name, %+v", len(got.Interfaces), len(got.Users), len(got.Hostname), got.OS)
	}
	if strings.ContainsAny(got.Interfaces[0].Name, "\x00\x1b") {
		t.Fatalf("control characters in %q", got.Interfaces[0].Name)
	}
}

func FuzzCollect(f *testing.F) {
	f.Add(`{"version":"1","supported_commands":[{"name":"guest-get-users","enabled":true}]}`, `[{"user":"x"}]`)
	f.Fuzz(func(t *testing.T, info, answer string) {
		run := func(command string) ([]byte, error) {
			if strings.Contains(command, "guest-info") {
				return []byte(`{"return":` + info + `}`), nil
			}
			return []byte(`{"return":` + answer + `}`), nil
		}
		got, err := Collect(context.Background(), run)
		if err != nil {
			return
		}
		out, err := json.Marshal(got)
		if err != nil && !strings.Contains(err.Error(), "unsupported value") {
			t.Fatal(err)
		}
		if len(out) > 4<<20 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}
