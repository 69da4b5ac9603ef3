package rules

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

func nics(interfaces, networks string) string {
	return "domain: {devices: {interfaces: [" + interfaces + "]}}\nnetworks: [" + networks + "]"
}

func TestNetworks(t *testing.T) {
	const pod = "{name: default, pod: {}}"
	const nic = "spec.domain.devices.interfaces[0]"
	one := func(rest string) string { return nics("{name: default, "+rest+"}", pod) }
	run(t, []tc{
		{"second network", nics("{name: default, masquerade: {}}, {name: red, bridge: {}}", pod+", {name: red, multus: {networkName: ns/red}}"), "", nil},
		{"none at all", `{domain: {devices: {interfaces: null, autoattachPodInterface: false}}, networks: null}`, "", nil},
		{"interface without a network", nics("{name: default, masquerade: {}}, {name: red, bridge: {}}", pod), "spec.domain.devices.interfaces[1].name", nil},
		{"network without an interface", nics("{name: default, masquerade: {}}", pod+", {name: red, multus: {networkName: red}}"), "spec.networks[1].name", nil},
		{"same network twice", nics("{name: default, masquerade: {}}", pod+", "+pod), "spec.networks[1].name", nil},
		{"same interface twice", nics("{name: default, masquerade: {}}, {name: default, masquerade: {}}", pod), "spec.domain.devices.interfaces[1].name", nil},
		{"two pod networks", nics("{name: default, masquerade: {}}, {name: red, masquerade: {}}", pod+", {name: red, pod: {}}"), "spec.networks", nil},
		{"network of no kind", nics("{name: default, masquerade: {}}", "{name: default}"), "spec.networks[0]", nil},
		{"network of two kinds", nics("{name: default, masquerade: {}}", "{name: default, pod: {}, multus: {networkName: x}}"), "spec.networks[0]", nil},
		{"multus without a name", nics("{name: default, bridge: {}}", "{name: default, multus: {networkName: ''}}"), "spec.networks[0].multus.networkName", nil},
		{"multus default beside the pod network", nics("{name: default, masquerade: {}}, {name: red, bridge: {}}", pod+", {name: red, multus: {networkName: red, default: true}}"), "spec.networks", nil},
		{"addresses", nics("{name: default, masquerade: {}}", "{name: default, pod: {vmNetworkCIDR: 10.1.0.0/24, vmIPv6NetworkCIDR: 'fd00::/120'}}"), "", nil},
		{"addresses of the wrong kind", nics("{name: default, masquerade: {}}", "{name: default, pod: {vmNetworkCIDR: 'fd00::/120'}}"), "spec.networks[0].pod.vmNetworkCIDR", nil},
		{"v6 addresses of the wrong kind", nics("{name: default, masquerade: {}}", "{name: default, pod: {vmIPv6NetworkCIDR: 10.0.0.0/8}}"), "spec.networks[0].pod.vmIPv6NetworkCIDR", nil},

		{"name with a dot", nics("{name: a.b, masquerade: {}}", "{name: a.b, pod: {}}"), nic + ".name", nil},
		{"model", one("masquerade: {}, model: e1000e"), "", nil},
		{"unknown model", one("masquerade: {}, model: tulip"), nic + ".model", nil},
		{"state", one("masquerade: {}, state: down"), "", nil},
		{"unknown state", one("masquerade: {}, state: sleepy"), nic + ".state", nil},
		{"MAC address", one("masquerade: {}, macAddress: de-ad-00-00-be-af"), "", nil},
		{"malformed MAC address", one("masquerade: {}, macAddress: de:ad:00"), nic + ".macAddress", nil},
		{"long MAC address", one("masquerade: {}, macAddress: 'de:ad:00:00:be:af:be:af'"), nic + ".macAddress", nil},
		{"multicast MAC address", one("masquerade: {}, macAddress: '01:00:5e:00:00:01'"), nic + ".macAddress", nil},
		{"the bridge's MAC address", one("masquerade: {}, macAddress: '02:00:00:00:00:00'"), nic + ".macAddress", nil},
		{"PCI address", one("masquerade: {}, pciAddress: '0000:81:01.0'"), "", nil},
		{"malformed PCI address", one("masquerade: {}, pciAddress: '81'"), nic + ".pciAddress", nil},
		{"ACPI index", one("masquerade: {}, acpiIndex: 99999"), nic + ".acpiIndex", nil},

		{"no binding", one("model: virtio"), nic, nil},
		{"two bindings", one("masquerade: {}, bridge: {}"), nic, nil},
		{"bridge", one("bridge: {}"), "", nil},
		{"passt", one("passtBinding: {}"), "", nil},
		{"old passt", one("passt: {}"), nic + ".passt", nil},
		{"slirp", one("slirp: {}"), nic + ".slirp", nil},
		{"macvtap", one("macvtap: {}"), nic + ".macvtap", nil},
		{"plugin", one("binding: {name: vdpa}"), "", nil},
		{"unknown plugin", one("binding: {name: magic}"), nic + ".binding.name", nil},
		{"masquerade on a second network", nics("{name: red, masquerade: {}}", "{name: red, multus: {networkName: red}}"), nic + ".name", nil},
		{"passt on a second network", nics("{name: red, passtBinding: {}}", "{name: red, multus: {networkName: red}}"), nic + ".name", nil},
		{"SR-IOV", nics("{name: red, sriov: {}}", "{name: red, multus: {networkName: red}}"), "", nil},
		{"SR-IOV on the pod network", one("sriov: {}"), nic + ".name", nil},

		{"ports", one("masquerade: {}, ports: [{port: 22}, {name: http, port: 80, protocol: TCP}, {port: 53, protocol: UDP}]"), "", nil},
		{"port 0", one("masquerade: {}, ports: [{port: 0}]"), nic + ".ports[0].port", nil},
		{"port 65536", one("masquerade: {}, ports: [{port: 65536}]"), nic + ".ports[0].port", nil},
		{"protocol", one("masquerade: {}, ports: [{port: 1, protocol: SCTP}]"), nic + ".ports[0].protocol", nil},
		{"port name twice", one("masquerade: {}, ports: [{name: a, port: 1}, {name: a, port: 2}]"), nic + ".ports[1].name", nil},
		{"port name", one("masquerade: {}, ports: [{name: 'A port', port: 1}]"), nic + ".ports[0].name", nil},
		{"port ranges without their gate", one("masquerade: {}, portRanges: [{protocol: TCP, start: 1, end: 9}]"), nic + ".portRanges", nil},
		{"port ranges", one("masquerade: {}, portRanges: [{protocol: TCP, start: 1, end: 9}]"), "", []string{"PortRangesSpec"}},
		{"inverted port range", one("masquerade: {}, portRanges: [{protocol: TCP, start: 9, end: 1}]"), nic + ".portRanges[0]", []string{"PortRangesSpec"}},

		{"DHCP options", one("masquerade: {}, dhcpOptions: {bootFileName: b, ntpServers: [10.0.0.1], privateOptions: [{option: 240, value: x}]}"), "", nil},
		{"NTP server by name", one("masquerade: {}, dhcpOptions: {ntpServers: [ntp.example.com]}"), nic + ".dhcpOptions.ntpServers[0]", nil},
		{"DHCP option out of range", one("masquerade: {}, dhcpOptions: {privateOptions: [{option: 12, value: x}]}"), nic + ".dhcpOptions.privateOptions[0]", nil},
		{"DHCP option twice", one("masquerade: {}, dhcpOptions: {privateOptions: [{option: 240, value: x}, {option: 240, value: z}]}"), nic + ".dhcpOptions.privateOptions[1]", nil},
	})
}

// An administrator who forbids bridges on the pod network relies on it.
func TestBridgeMayBeForbidden(t *testing.T) {
	kv := &v1.KubeVirt{}
	kv.Status.DefaultArchitecture = "amd64"
	no := false
	kv.Spec.Configuration.NetworkConfiguration = &v1.NetworkConfiguration{NetworkInterface: "masquerade", PermitBridgeInterfaceOnPodNetwork: &no}
	config := clusterconfig.Effective(kv)
	s := spec(t, nics("{name: default, bridge: {}}", "{name: default, pod: {}}"), config)
	expect(t, Spec(field.NewPath("spec"), s, config), "spec.domain.devices.interfaces[0].name")
}

func TestFirmwareAndFeatures(t *testing.T) {
	const boot = "spec.domain.firmware.kernelBoot"
	run(t, []tc{
		{"BIOS", `domain: {firmware: {bootloader: {bios: {useSerial: true}}}}`, "", nil},
		{"EFI", `domain: {firmware: {bootloader: {efi: {secureBoot: false}}}}`, "", nil},
		{"secure boot", `domain: {firmware: {bootloader: {efi: {}}}, features: {smm: {}}}`, "", nil},
		{"secure boot without SMM", `domain: {firmware: {bootloader: {efi: {}}}}`, "spec.domain.firmware.bootloader.efi", nil},
		{"secure boot with SMM off", `domain: {firmware: {bootloader: {efi: {secureBoot: true}}}, features: {smm: {enabled: false}}}`, "spec.domain.firmware.bootloader.efi", nil},
		{"BIOS and EFI", `domain: {firmware: {bootloader: {bios: {}, efi: {secureBoot: false}}}}`, "spec.domain.firmware.bootloader.efi", nil},
		{"BIOS on arm64", `{architecture: arm64, domain: {firmware: {bootloader: {bios: {}}}}}`, "spec.domain.firmware.bootloader.bios", nil},
		{"secure boot on arm64", `{architecture: arm64, domain: {firmware: {bootloader: {efi: {secureBoot: true}}}}}`, "spec.domain.firmware.bootloader.efi.secureboot", nil},
		{"UUID", `domain: {firmware: {uuid: 5d307ca9-b3ef-428c-8861-06e72d69f223}}`, "", nil},
		{"malformed UUID", `domain: {firmware: {uuid: "12345"}}`, "spec.domain.firmware.uuid", nil},
		{"serial with a space", `domain: {firmware: {serial: "a b"}}`, "", nil},
		{"serial with a quote", `domain: {firmware: {serial: "a\"b"}}`, "spec.domain.firmware.serial", nil},
		{"ACPI table", `{domain: {firmware: {acpi: {slicNameRef: s}}}, volumes: [{name: root, emptyDisk: {capacity: 1Gi}}, {name: s, secret: {secretName: s}}]}`, "", nil},
		{"ACPI table of nothing", `domain: {firmware: {acpi: {slicNameRef: s}}}`, "spec.domain.firmware.acpi.slicNameRef", nil},
		{"ACPI without a table", `domain: {firmware: {acpi: {}}}`, "spec.domain.firmware.acpi", nil},

		{"kernel", `domain: {firmware: {kernelBoot: {kernelArgs: "console=ttyS0", container: {image: i, kernelPath: /boot/k, initrdPath: /boot/i}}}}`, "", nil},
		{"no image", `domain: {firmware: {kernelBoot: {container: {image: "", kernelPath: /k}}}}`, boot + ".container.image", nil},
		{"no path", `domain: {firmware: {kernelBoot: {container: {image: i}}}}`, boot + ".container", nil},
		{"arguments without a kernel", `domain: {firmware: {kernelBoot: {kernelArgs: x}}}`, boot + ".kernelArgs", nil},
		{"arguments with an initrd only", `domain: {firmware: {kernelBoot: {kernelArgs: x, container: {image: i, initrdPath: /i}}}}`, boot + ".kernelArgs", nil},
		{"path out of the image", `domain: {firmware: {kernelBoot: {container: {image: i, kernelPath: /../etc/shadow}}}}`, boot + ".container.kernelPath", nil},

		{"SEV", `domain: {launchSecurity: {sev: {}}, firmware: {bootloader: {efi: {secureBoot: false}}}}`, "", nil},
		{"SEV without EFI", `domain: {launchSecurity: {sev: {}}}`, "spec.domain.firmware.bootloader", nil},
		{"SEV with secure boot", `domain: {launchSecurity: {sev: {}}, firmware: {bootloader: {efi: {}}}, features: {smm: {}}}`, "spec.domain.firmware.bootloader.efi", nil},
		{"SEV with network boot", `domain: {launchSecurity: {sev: {}}, firmware: {bootloader: {efi: {secureBoot: false}}}, devices: {interfaces: [{name: default, masquerade: {}, bootOrder: 1}]}}`, "spec.domain.devices.interfaces[0]", nil},
		{"TDX without its gate", `domain: {launchSecurity: {tdx: {}}}`, "spec.domain.launchSecurity", nil},
		{"two securities", `domain: {launchSecurity: {sev: {}, snp: {}}}`, "spec.domain.launchSecurity", nil},
		{"reboot policy", `domain: {rebootPolicy: Terminate}`, "", nil},
		{"unknown reboot policy", `domain: {rebootPolicy: Never}`, "spec.domain.rebootPolicy", nil},

		{"Hyper-V", `domain: {features: {hyperv: {relaxed: {}, vapic: {}, spinlocks: {spinlocks: 8191}, synictimer: {direct: {}}, ipi: {}, tlbflush: {}, reenlightenment: {}}}}`, "", nil},
		{"synic without vpindex", `domain: {features: {hyperv: {synic: {}, vpindex: {enabled: false}}}}`, "spec.domain.features.hyperv.synic", nil},
		{"timer without synic", `domain: {features: {hyperv: {synictimer: {}, synic: {enabled: false}}}}`, "spec.domain.features.hyperv.synictimer", nil},
		{"IPI without vpindex", `domain: {features: {hyperv: {ipi: {}, vpindex: {enabled: false}}}}`, "spec.domain.features.hyperv.ipi", nil},
		{"flush without vpindex", `domain: {features: {hyperv: {tlbflush: {}, vpindex: {enabled: false}}}}`, "spec.domain.features.hyperv.tlbflush", nil},
		{"VMCS without vapic", `domain: {features: {hyperv: {evmcs: {}, vapic: {enabled: false}}}}`, "spec.domain.features.hyperv.evmcs", nil},
		{"few spinlock retries", `domain: {features: {hyperv: {spinlocks: {spinlocks: 1}}}}`, "spec.domain.features.hyperv.spinlocks", nil},
		{"vendor", `domain: {features: {hyperv: {vendorid: {vendorid: myownvendor1}}}}`, "", nil},
		{"long vendor", `domain: {features: {hyperv: {vendorid: {vendorid: myownvendor12}}}}`, "spec.domain.features.hyperv.vendorid", nil},
		{"passthrough and explicit", `domain: {features: {hypervPassthrough: {enabled: true}, hyperv: {relaxed: {}}}}`, "spec.domain.features.hyperv", nil},
		{"Hyper-V on arm64", `{architecture: arm64, domain: {features: {hyperv: {relaxed: {}}}}}`, "spec.domain.features.hyperv", nil},

		{"clock", `domain: {clock: {utc: {}, timer: {hpet: {present: false}, pit: {tickPolicy: delay}, rtc: {tickPolicy: catchup, track: guest}, hyperv: {}}}}`, "", nil},
		{"two clocks", `domain: {clock: {utc: {}, timezone: Europe/Berlin}}`, "spec.domain.clock", nil},
		{"time zone", `domain: {clock: {timezone: "'x"}}`, "spec.domain.clock.timezone", nil},
		{"hpet policy", `domain: {clock: {timer: {hpet: {tickPolicy: x}}}}`, "spec.domain.clock.timer.hpet.tickPolicy", nil},
		{"pit policy", `domain: {clock: {timer: {pit: {tickPolicy: merge}}}}`, "spec.domain.clock.timer.pit.tickPolicy", nil},
		{"rtc track", `domain: {clock: {timer: {rtc: {track: moon}}}}`, "spec.domain.clock.timer.rtc.track", nil},
	})
}

func TestDevices(t *testing.T) {
	d := func(rest string) string { return "domain: {devices: {" + rest + "}}" }
	const at = "spec.domain.devices"
	run(t, []tc{
		{"input", d("inputs: [{name: t, type: tablet, bus: virtio}]"), "", nil},
		{"input bus", d("inputs: [{name: t, type: tablet, bus: ps2}]"), at + ".inputs[0].bus", nil},
		{"input type", d("inputs: [{name: t, type: mouse, bus: usb}]"), at + ".inputs[0].type", nil},
		{"sound", d("sound: {name: s, model: ac97}"), "", nil},
		{"sound without a name", d("sound: {name: ''}"), at + ".sound.name", nil},
		{"sound model", d("sound: {name: s, model: sb16}"), at + ".sound.model", nil},
		{"video", d("video: {type: virtio}"), "", nil},
		{"unknown video", d("video: {type: voodoo}"), at + ".video.type", nil},
		{"video without graphics", d("autoattachGraphicsDevice: false, video: {type: vga}"), at + ".video", nil},
		{"TPM", d("tpm: {persistent: true}"), "", nil},
		{"watchdog", d("watchdog: {name: w, i6300esb: {action: poweroff}}"), "", nil},
		{"watchdog by default", d("watchdog: {name: w}"), "", nil},
		{"watchdog action", d("watchdog: {name: w, i6300esb: {action: explode}}"), at + ".watchdog.i6300esb.action", nil},
		{"watchdog without a name", d("watchdog: {name: '', i6300esb: {}}"), at + ".watchdog.name", nil},
		{"watchdog of another architecture", d("watchdog: {name: w, diag288: {}}"), at + ".watchdog", nil},
		{"GPU", d("gpus: [{name: gpu1, deviceName: nvidia.com/GV100GL}]"), "", nil},
		{"GPU without a device", d("gpus: [{name: gpu1}]"), at + ".gpus[0].deviceName", nil},
		{"GPU without a name", d("gpus: [{name: '', deviceName: nvidia.com/GV100GL}]"), at + ".gpus[0].name", nil},
		{"GPU twice", d("gpus: [{name: g, deviceName: a/b}, {name: g, deviceName: a/b}]"), at + ".gpus[1].name", nil},
		{"two GPU displays", d("gpus: [{name: g, deviceName: a/b, virtualGPUOptions: {display: {}}}, {name: h, deviceName: a/b, virtualGPUOptions: {display: {}}}]"), at + ".gpus[1].virtualGPUOptions.display", nil},
		{"GPU claim", d("gpus: [{name: g, claimName: c, requestName: r}]") + "\nresourceClaims: [{name: c, resourceClaimName: x}]", "", nil},
		{"GPU claim of nothing", d("gpus: [{name: g, claimName: c, requestName: r}]"), at + ".gpus[0].claimName", nil},
		{"GPU claim without a request", d("gpus: [{name: g, claimName: c}]") + "\nresourceClaims: [{name: c, resourceClaimName: x}]", at + ".gpus[0].requestName", nil},
		{"claim of two", "resourceClaims: [{name: c, resourceClaimName: x, resourceClaimTemplateName: z}]", "spec.resourceClaims[0]", nil},
		{"claim twice", "resourceClaims: [{name: c, resourceClaimName: x}, {name: c, resourceClaimName: x}]", "spec.resourceClaims[1].name", nil},
		{"host device without its gate", d("hostDevices: [{name: h, deviceName: intel.com/qat}]"), at + ".hostDevices", nil},
		{"host device", d("hostDevices: [{name: h, deviceName: intel.com/qat}]"), "", []string{"HostDevices"}},
		{"VSOCK without its gate", d("autoattachVSOCK: true"), at + ".autoattachVSOCK", nil},
		{"VSOCK", d("autoattachVSOCK: true"), "", []string{"VSOCK"}},
		{"panic device", d("panicDevices: [{model: isa}]"), "", nil},
		{"panic device without a model", d("panicDevices: [{}]"), at + ".panicDevices[0].model", nil},
		{"panic device model", d("panicDevices: [{model: x}]"), at + ".panicDevices[0].model", nil},
		{"many inputs", d("inputs: [" + strings.TrimSuffix(strings.Repeat("{name: i, type: tablet, bus: usb},", 257), ",") + "]"), at + ".inputs", nil},
	})
}

func TestLifecycle(t *testing.T) {
	run(t, []tc{
		{"host name", `{hostname: web-1, subdomain: mine}`, "", nil},
		{"host name in capitals", `{hostname: Web}`, "spec.hostname", nil},
		{"host name too long", `{hostname: ` + strings.Repeat("h", 64) + `}`, "spec.hostname", nil},
		{"subdomain with dots", `{subdomain: a.b}`, "spec.subdomain", nil},
		{"HTTP probe", `{readinessProbe: {httpGet: {port: 80}}, livenessProbe: {tcpSocket: {port: 22}}}`, "", nil},
		{"agent probe", `{readinessProbe: {guestAgentPing: {}}, livenessProbe: {exec: {command: [cat, /x]}}}`, "", nil},
		{"probe of nothing", `{readinessProbe: {initialDelaySeconds: 1}}`, "spec.readinessProbe", nil},
		{"probe of two", `{readinessProbe: {httpGet: {port: 80}, tcpSocket: {port: 80}}}`, "spec.readinessProbe", nil},
		{"probe's port", `{livenessProbe: {tcpSocket: {port: 99999}}}`, "spec.livenessProbe.tcpSocket.port", nil},
		{"probe's port by name", `{livenessProbe: {httpGet: {port: "not a port"}}}`, "spec.livenessProbe.httpGet.port", nil},
		{"probe's delay", `{livenessProbe: {guestAgentPing: {}, initialDelaySeconds: -1}}`, "spec.livenessProbe.initialDelaySeconds", nil},
		{"probe without a command", `{livenessProbe: {exec: {command: []}}}`, "spec.livenessProbe.exec.command", nil},
		{"liveness successes", `{livenessProbe: {guestAgentPing: {}, successThreshold: 2}}`, "spec.livenessProbe.successThreshold", nil},
		{
			"HTTP probe without the pod network", `{readinessProbe: {httpGet: {port: 80}}, networks: null, domain: {devices: {interfaces: null, autoattachPodInterface: false}}}`,
			"spec.readinessProbe.httpGet", nil,
		},
		{"eviction", `{evictionStrategy: LiveMigrateIfPossible}`, "", nil},
		{"unknown eviction", `{evictionStrategy: Throw}`, "spec.evictionStrategy", nil},
		{"start paused", `{startStrategy: Paused}`, "", nil},
		{"unknown start", `{startStrategy: Running}`, "spec.startStrategy", nil},
		{"start paused with a liveness probe", `{startStrategy: Paused, livenessProbe: {guestAgentPing: {}}}`, "spec.startStrategy", nil},
		{"grace period", `{terminationGracePeriodSeconds: 0}`, "", nil},
		{"negative grace period", `{terminationGracePeriodSeconds: -1}`, "spec.terminationGracePeriodSeconds", nil},

		{"password", `accessCredentials: [{userPassword: {source: {secret: {secretName: s}}, propagationMethod: {qemuGuestAgent: {}}}}]`, "", nil},
		{"password from nowhere", `accessCredentials: [{userPassword: {source: {}, propagationMethod: {qemuGuestAgent: {}}}}]`, "spec.accessCredentials[0].userPassword.source", nil},
		{"password to nowhere", `accessCredentials: [{userPassword: {source: {secret: {secretName: s}}, propagationMethod: {}}}]`, "spec.accessCredentials[0].userPassword.propagationMethod", nil},
		{"key by the agent", `accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {qemuGuestAgent: {users: [me]}}}}]`, "", nil},
		{
			"key for nobody", `accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {qemuGuestAgent: {users: []}}}}]`,
			"spec.accessCredentials[0].sshPublicKey.propagationMethod.qemuGuestAgent.users", nil,
		},
		{
			"key without a cloud-init volume", `accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}}}}]`,
			"spec.accessCredentials[0].sshPublicKey.propagationMethod", nil,
		},
		{"credential of nothing", `accessCredentials: [{}]`, "spec.accessCredentials[0]", nil},
	})
}

func TestScheduling(t *testing.T) {
	const required = "requiredDuringSchedulingIgnoredDuringExecution"
	const preferred = "preferredDuringSchedulingIgnoredDuringExecution"
	run(t, []tc{
		{"DNS", `{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a.example], options: [{name: ndots, value: "2"}]}}`, "", nil},
		{"DNS policy", `{dnsPolicy: Sometimes}`, "spec.dnsPolicy", nil},
		{"no DNS at all", `{dnsPolicy: None}`, "spec.dnsConfig", nil},
		{"no name server", `{dnsPolicy: None, dnsConfig: {}}`, "spec.dnsConfig.nameservers", nil},
		{"four name servers", `{dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}}`, "spec.dnsConfig.nameservers", nil},
		{"name server by name", `{dnsConfig: {nameservers: [dns.example]}}`, "spec.dnsConfig.nameservers[0]", nil},
		{"search path", `{dnsConfig: {searches: ["a b"]}}`, "spec.dnsConfig.searches[0]", nil},
		{"node selector", `nodeSelector: {kubernetes.io/hostname: n1}`, "", nil},
		{"node selector's key", `nodeSelector: {"a b": x}`, "spec.nodeSelector", nil},
		{"toleration", `tolerations: [{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 3}]`, "", nil},
		{"toleration of nothing", `tolerations: [{operator: Equal}]`, "spec.tolerations[0].operator", nil},
		{"toleration's value", `tolerations: [{key: k, operator: Exists, value: v}]`, "spec.tolerations[0].operator", nil},
		{"toleration's effect", `tolerations: [{key: k, operator: Exists, effect: Often}]`, "spec.tolerations[0].effect", nil},
		{"toleration's time", `tolerations: [{key: k, operator: Exists, effect: NoSchedule, tolerationSeconds: 3}]`, "spec.tolerations[0].effect", nil},
		{"spread", `topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]`, "", nil},
		{"spread's skew", `topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]`, "spec.topologySpreadConstraints[0].maxSkew", nil},
		{"spread's key", `topologySpreadConstraints: [{maxSkew: 1, topologyKey: "", whenUnsatisfiable: DoNotSchedule}]`, "spec.topologySpreadConstraints[0].topologyKey", nil},
		{"node affinity", `affinity: {nodeAffinity: {` + required + `: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}}`, "", nil},
		{"node affinity to nothing", `affinity: {nodeAffinity: {` + required + `: {nodeSelectorTerms: []}}}`, "spec.affinity.nodeAffinity." + required + ".nodeSelectorTerms", nil},
		{
			"node affinity's operator", `affinity: {nodeAffinity: {` + required + `: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Near, values: [b]}]}]}}}`,
			"spec.affinity.nodeAffinity." + required + ".nodeSelectorTerms[0].matchExpressions[0].operator", nil,
		},
		{"node affinity's weight", `affinity: {nodeAffinity: {` + preferred + `: [{weight: 101, preference: {}}]}}`, "spec.affinity.nodeAffinity." + preferred + "[0].weight", nil},
		{"pod affinity", `affinity: {podAntiAffinity: {` + required + `: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}]}}`, "", nil},
		{"pod affinity's key", `affinity: {podAffinity: {` + required + `: [{topologyKey: ""}]}}`, "spec.affinity.podAffinity." + required + "[0].topologyKey", nil},
		{
			"pod affinity's selector", `affinity: {podAffinity: {` + required + `: [{topologyKey: x, labelSelector: {matchExpressions: [{key: a, operator: In}]}}]}}`,
			"spec.affinity.podAffinity." + required + "[0].labelSelector.matchExpressions[0].values", nil,
		},
	})
}
