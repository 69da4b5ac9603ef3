// Package agent reads what a guest's agent says. The guest may lie: every count, length and byte is bounded and cleaned before
// anyone else sees it, because what comes out of here ends up in an object of the API server (CVE-2025-14525).
package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"virtctl/internal/libvirt/wire"
)

// The bounds.
const (
	maxAnswer     = 1 << 20
	maxString     = 256
	maxCommands   = 256
	maxUsers      = 64
	maxDisks      = 128
	maxDiskParts  = 16
	maxInterfaces = 128
	maxIPs        = 32
)

// Run sends one command to the agent and returns its answer, a JSON object with "return".
type Run func(command string) ([]byte, error)

// Collect asks for everything the agent can tell. An agent that cannot tell one thing, or tells nonsense, still tells the others.
func Collect(ctx context.Context, run Run) (wire.GuestInfo, error) {
	var info wire.GuestInfo
	can, err := readInfo(run, &info)
	if err != nil {
		return info, err
	}
	for _, q := range questions() {
		if err := ctx.Err(); err != nil {
			return info, fmt.Errorf("ask the guest agent: %w", err)
		}
		if !can[q.command] {
			continue
		}
		answer, err := ask(run, q.command)
		if err != nil {
			continue
		}
		_ = q.read(answer, &info)
	}
	return info, nil
}

type question struct {
	command string
	read    func([]byte, *wire.GuestInfo) error
}

func questions() []question {
	return []question{
		{"guest-get-host-name", readHostname},
		{"guest-get-osinfo", readOS},
		{"guest-get-timezone", readTimezone},
		{"guest-get-users", readUsers},
		{"guest-get-fsinfo", readFilesystems},
		{"guest-network-get-interfaces", readInterfaces},
		{"guest-fsfreeze-status", readFreeze},
		{"guest-get-load", readLoad},
	}
}

// ask returns the content of an answer's "return".
func ask(run Run, command string) ([]byte, error) {
	answer, err := run(`{"execute":"` + command + `"}`)
	if err != nil {
		return nil, err
	}
	if len(answer) > maxAnswer {
		return nil, &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("the guest agent answered %s with more than %d KiB", command, maxAnswer>>10)}
	}
	var envelope struct {
		Return json.RawMessage `json:"return"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return nil, fmt.Errorf("the guest agent's answer to %s is not JSON: %w", command, err)
	}
	return envelope.Return, nil
}

func readInfo(run Run, info *wire.GuestInfo) (map[string]bool, error) {
	answer, err := ask(run, "guest-info")
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Version  string `json:"version"`
		Commands []struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
		} `json:"supported_commands"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return nil, fmt.Errorf("the guest agent's answer to guest-info makes no sense: %w", err)
	}
	info.AgentVersion = clean(parsed.Version)
	can := map[string]bool{}
	for _, c := range head(parsed.Commands, maxCommands) {
		name := clean(c.Name)
		can[name] = c.Enabled
		info.Commands = append(info.Commands, wire.GuestCommand{Name: name, Enabled: c.Enabled})
	}
	return can, nil
}

func readHostname(b []byte, info *wire.GuestInfo) error {
	var v struct {
		Name string `json:"host-name"`
	}
	err := json.Unmarshal(b, &v)
	info.Hostname = clean(v.Name)
	return err
}

func readOS(b []byte, info *wire.GuestInfo) error {
	var v map[string]any
	err := json.Unmarshal(b, &v)
	text := func(key string) string { s, _ := v[key].(string); return clean(s) }
	info.OS = wire.GuestOS{
		ID: text("id"), Name: text("name"), PrettyName: text("pretty-name"), Version: text("version"), VersionID: text("version-id"),
		KernelRelease: text("kernel-release"), KernelVersion: text("kernel-version"), Machine: text("machine"),
	}
	return err
}

func readTimezone(b []byte, info *wire.GuestInfo) error {
	var v struct {
		Zone   string `json:"zone"`
		Offset int64  `json:"offset"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	info.Timezone = fmt.Sprintf("%s, %d", clean(v.Zone), v.Offset)
	return nil
}

func readUsers(b []byte, info *wire.GuestInfo) error {
	var v []struct {
		User   string  `json:"user"`
		Domain string  `json:"domain"`
		Login  float64 `json:"login-time"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	for _, u := range head(v, maxUsers) {
		info.Users = append(info.Users, wire.GuestUser{Name: clean(u.User), Domain: clean(u.Domain), LoginTime: u.Login})
	}
	return nil
}

func readFilesystems(b []byte, info *wire.GuestInfo) error {
	var v []struct {
		Name       string `json:"name"`
		MountPoint string `json:"mountpoint"`
		Type       string `json:"type"`
		Used       int64  `json:"used-bytes"`
		Total      int64  `json:"total-bytes"`
		Disks      []struct {
			Serial  string `json:"serial"`
			BusType string `json:"bus-type"`
		} `json:"disk"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	for _, f := range head(v, maxDisks) {
		fs := wire.GuestFS{
			Disk: clean(f.Name), MountPoint: clean(f.MountPoint), Type: clean(f.Type), UsedBytes: max(f.Used, 0), TotalBytes: max(f.Total, 0),
		}
		for _, d := range head(f.Disks, maxDiskParts) {
			fs.Devices = append(fs.Devices, wire.GuestFSDisk{Serial: clean(d.Serial), BusType: clean(d.BusType)})
		}
		info.Disks = append(info.Disks, fs)
	}
	return nil
}

func readInterfaces(b []byte, info *wire.GuestInfo) error {
	var v []struct {
		Name string `json:"name"`
		MAC  string `json:"hardware-address"`
		IPs  []struct {
			Address string `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	for _, i := range head(v, maxInterfaces) {
		var ips []netip.Addr
		loopback := false
		for _, ip := range head(i.IPs, maxIPs) {
			addr, err := netip.ParseAddr(ip.Address)
			if err != nil {
				continue
			}
			loopback = loopback || addr.IsLoopback()
			ips = append(ips, addr.WithZone(""))
		}
		if loopback {
			continue
		}
		info.Interfaces = append(info.Interfaces, wire.GuestInterface{Name: clean(i.Name), MAC: clean(strings.ToLower(i.MAC)), IPs: ordered(ips)})
	}
	return nil
}

// ordered puts addresses others can reach first, IPv4 before IPv6.
func ordered(ips []netip.Addr) []string {
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}

func rank(a netip.Addr) int {
	switch {
	case a.IsLinkLocalUnicast():
		return 2
	case a.Is6():
		return 1
	}
	return 0
}

func readFreeze(b []byte, info *wire.GuestInfo) error {
	var v string
	err := json.Unmarshal(b, &v)
	if v == "thawed" || v == "frozen" {
		info.FSFreeze = v
	}
	return err
}

func readLoad(b []byte, info *wire.GuestInfo) error {
	var v struct {
		One     float64 `json:"load1m"`
		Five    float64 `json:"load5m"`
		Fifteen float64 `json:"load15m"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	info.Load = []float64{v.One, v.Five, v.Fifteen}
	return nil
}

func head[T any](list []T, n int) []T { return list[:min(len(list), n)] }

// clean makes a guest's string fit to be shown: valid, printable, short.
func clean(s string) string {
	if len(s) > maxString {
		s = s[:maxString]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
