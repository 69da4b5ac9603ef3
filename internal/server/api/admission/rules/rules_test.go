package rules

import (
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/admission/defaults"
)

// plain is a spec that nobody objects to.
const plain = `
domain:
  memory: {guest: 64Mi}
  devices:
    disks: [{name: root, disk: {bus: virtio}}]
    interfaces: [{name: default, masquerade: {}}]
networks: [{name: default, pod: {}}]
volumes: [{name: root, containerDisk: {image: "demo:1"}}]
`

func cluster(gates ...string) clusterconfig.Config {
	kv := &v1.KubeVirt{}
	kv.Status.DefaultArchitecture = "amd64"
	kv.Spec.Configuration.DeveloperConfiguration = &v1.DeveloperConfiguration{FeatureGates: gates}
	kv.Spec.Configuration.NetworkConfiguration = &v1.NetworkConfiguration{
		Binding: map[string]v1.InterfaceBindingPlugin{"vdpa": {}},
	}
	return clusterconfig.Effective(kv)
}

// spec applies a JSON merge patch in YAML to the plain spec, and completes it.
func spec(t *testing.T, patch string, c clusterconfig.Config) *v1.VirtualMachineInstanceSpec {
	t.Helper()
	base, err := yaml.YAMLToJSON([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	change, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	if patch != "" {
		if base, err = jsonpatch.MergePatch(base, change); err != nil {
			t.Fatal(err)
		}
	}
	s := &v1.VirtualMachineInstanceSpec{}
	if err := yaml.UnmarshalStrict(base, s); err != nil {
		t.Fatal(err)
	}
	if err := defaults.Spec(s, c); err != nil {
		t.Fatal(err)
	}
	return s
}

// tc is a change of the plain spec and the field that it must be refused for; no field means that it is accepted.
type tc struct {
	name, patch, field string
	gates              []string
}

func run(t *testing.T, cases []tc) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := cluster(c.gates...)
			expect(t, Spec(field.NewPath("spec"), spec(t, c.patch, config), config), c.field)
		})
	}
}

// expect wants one of the causes to be at the field, or no cause at all, and every message to name its field.
func expect(t *testing.T, causes []metav1.StatusCause, at string) {
	t.Helper()
	if at == "" && len(causes) > 0 {
		t.Errorf("refused: %+v", causes)
	}
	if at != "" && !slices.ContainsFunc(causes, func(s metav1.StatusCause) bool { return s.Field == at }) {
		t.Errorf("not refused for %s: %+v", at, causes)
	}
	for _, s := range causes {
		if !strings.Contains(s.Message, s.Field) {
			t.Errorf("%q does not name %s", s.Message, s.Field)
		}
		if strings.Contains(s.Message, "%!") {
			t.Errorf("broken message %q", s.Message)
		}
	}
}

func TestPlainSpecIsAccepted(t *testing.T) {
	run(t, []tc{{name: "plain"}})
}

func TestMemory(t *testing.T) {
	run(t, []tc{
		{"none at all", `domain: {memory: null}`, "spec.domain.memory.guest", nil},
		{"requested", `domain: {memory: null, resources: {requests: {memory: 64Mi}}}`, "", nil},
		{"limited", `domain: {memory: null, resources: {limits: {memory: 64Mi}}}`, "", nil},
		{"zero", `domain: {memory: {guest: "0"}}`, "spec.domain.memory.guest", nil},
		{"negative", `domain: {memory: {guest: "-1Mi"}}`, "spec.domain.memory.guest", nil},
		{"tiny", `domain: {memory: {guest: 1k}}`, "spec.domain.memory.guest", nil},
		{"tiny request", `domain: {resources: {requests: {memory: 1k}}}`, "spec.domain.resources.requests.memory", nil},
		{"negative request", `domain: {resources: {requests: {memory: "-1"}}}`, "spec.domain.resources.requests.memory", nil},
		{"negative limit", `domain: {resources: {limits: {memory: "-1"}}}`, "spec.domain.resources.limits.memory", nil},
		{"request above limit", `domain: {resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}`, "spec.domain.resources.requests.memory", nil},
		{"guest above limit", `domain: {memory: {guest: 2Gi}, resources: {limits: {memory: 1Gi}}}`, "spec.domain.memory.guest", nil},
		{"guest above request", `domain: {memory: {guest: 2Gi}, resources: {requests: {memory: 1Gi}}}`, "", nil},
		{"hugepages", `domain: {memory: {hugepages: {pageSize: 2Mi}}}`, "", nil},
		{"hugepages alone", `domain: {memory: {guest: null, hugepages: {pageSize: 1Gi}}}`, "", nil},
		{"hugepages of nonsense", `domain: {memory: {hugepages: {pageSize: big}}}`, "spec.domain.memory.hugepages.pageSize", nil},
		{"hugepages of zero", `domain: {memory: {hugepages: {pageSize: "0"}}}`, "spec.domain.memory.hugepages.pageSize", nil},
		{"hugepages larger than the guest", `domain: {memory: {hugepages: {pageSize: 1Gi}}}`, "spec.domain.memory.guest", nil},
		{"part of a hugepage", `domain: {memory: {guest: 65Mi, hugepages: {pageSize: 2Mi}}}`, "spec.domain.memory.guest", nil},
		{
			"hugepages with unequal limit", `domain: {memory: {guest: 1Gi, hugepages: {pageSize: 2Mi}}, resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}`,
			"spec.domain.resources.requests.memory", nil,
		},
		{"maxGuest", `domain: {memory: {guest: 1Gi, maxGuest: 4Gi}}`, "", nil},
		{"maxGuest below guest", `domain: {memory: {guest: 2Gi, maxGuest: 1Gi}}`, "spec.domain.memory.maxGuest", nil},
		{"maxGuest of a small guest", `domain: {memory: {guest: 64Mi, maxGuest: 1Gi}}`, "spec.domain.memory.maxGuest", nil},
		{"maxGuest unaligned", `domain: {memory: {guest: 1Gi, maxGuest: 2147483649}}`, "spec.domain.memory.maxGuest", nil},
	})
}

func TestCPU(t *testing.T) {
	const pinned = `domain: {cpu: {cores: 2, dedicatedCpuPlacement: true%s}, resources: {%s}, memory: {guest: 1Gi%s}}`
	with := func(cpu, resources, memory string) string {
		return strings.NewReplacer("true%s", "true"+cpu, "{%s}", "{"+resources+"}", "1Gi%s", "1Gi"+memory).Replace(pinned)
	}
	run(t, []tc{
		{"topology", `domain: {cpu: {sockets: 2, cores: 2, threads: 2}}`, "", nil},
		{"request", `domain: {resources: {requests: {cpu: 500m}}}`, "", nil},
		{"request of none", `domain: {resources: {requests: {cpu: "0"}}}`, "", nil},
		{"negative request", `domain: {resources: {requests: {cpu: "-1"}}}`, "spec.domain.resources.requests.cpu", nil},
		{"negative limit", `domain: {resources: {limits: {cpu: "-1"}}}`, "spec.domain.resources.limits.cpu", nil},
		{"request above limit", `domain: {resources: {requests: {cpu: 2}, limits: {cpu: 1}}}`, "spec.domain.resources.requests.cpu", nil},
		{"sockets above maximum", `domain: {cpu: {sockets: 4, maxSockets: 2}}`, "spec.domain.cpu.sockets", nil},
		{"sockets below maximum", `domain: {cpu: {sockets: 2, maxSockets: 4}}`, "", nil},
		{"absurd", `domain: {cpu: {sockets: 4294967295, cores: 4294967295, threads: 4294967295}}`, "spec.domain.cpu", nil},
		{"request that no node meets", `domain: {resources: {requests: {cpu: 9000000000}}}`, "", nil},
		{"feature", `domain: {cpu: {features: [{name: vmx, policy: require}, {name: svm, policy: disable}, {name: aes}]}}`, "", nil},
		{"feature policy", `domain: {cpu: {features: [{name: vmx, policy: maybe}]}}`, "spec.domain.cpu.features[0].policy", nil},
		{"feature without a name", `domain: {cpu: {features: [{name: ""}]}}`, "spec.domain.cpu.features[0].name", nil},
		{"feature twice", `domain: {cpu: {features: [{name: vmx}, {name: vmx}]}}`, "spec.domain.cpu.features[1].name", nil},
		{"dedicated", with("", "", ""), "", nil},
		{"dedicated with limits", `domain: {cpu: {dedicatedCpuPlacement: true}, resources: {limits: {cpu: 2, memory: 1Gi}}}`, "", nil},
		{"dedicated part of a CPU", with("", "limits: {cpu: 1500m}", ""), "spec.domain.resources.limits.cpu", nil},
		{"dedicated with unequal CPUs", with("", "requests: {cpu: 1}, limits: {cpu: 2}", ""), "spec.domain.resources.limits.cpu", nil},
		{"dedicated with unequal memory", with("", "requests: {memory: 1Gi}, limits: {memory: 2Gi}", ""), "spec.domain.resources.limits.memory", nil},
		{"dedicated with other cores", with("", "limits: {cpu: 3}", ""), "spec.domain.cpu.dedicatedCpuPlacement", nil},
		{"dedicated with three threads", with(", threads: 3", "", ""), "spec.domain.cpu.threads", nil},
		{"isolated emulator", with(", isolateEmulatorThread: true", "", ""), "", nil},
		{"isolated emulator alone", `domain: {cpu: {isolateEmulatorThread: true}}`, "spec.domain.cpu.isolateEmulatorThread", nil},
		{"realtime alone", `domain: {cpu: {realtime: {}}}`, "spec.domain.cpu.realtime", nil},
		{"realtime without NUMA", with(", realtime: {}", "", ""), "spec.domain.cpu.numa.guestMappingPassthrough", nil},
		{"NUMA", with(", numa: {guestMappingPassthrough: {}}", "", ", hugepages: {pageSize: 2Mi}"), "", nil},
		{"NUMA without hugepages", with(", numa: {guestMappingPassthrough: {}}", "", ""), "spec.domain.memory.hugepages", nil},
		{"NUMA alone", `domain: {cpu: {numa: {guestMappingPassthrough: {}}}}`, "spec.domain.cpu.numa.guestMappingPassthrough", nil},
		{"model on arm64", `{architecture: arm64, domain: {cpu: {model: Skylake}}}`, "spec.domain.cpu.model", nil},
		{"IO threads", `domain: {ioThreadsPolicy: auto}`, "", nil},
		{"IO threads policy", `domain: {ioThreadsPolicy: many}`, "spec.domain.ioThreadsPolicy", nil},
		{"IO thread pool", `domain: {ioThreadsPolicy: supplementalPool, ioThreads: {supplementalPoolThreadCount: 2}}`, "", nil},
		{"IO thread pool of none", `domain: {ioThreadsPolicy: supplementalPool}`, "spec.domain.ioThreads.supplementalPoolThreadCount", nil},
	})
}

func TestMachine(t *testing.T) {
	run(t, []tc{
		{"q35", `domain: {machine: {type: q35}}`, "", nil},
		{"versioned", `domain: {machine: {type: pc-q35-rhel9.4.0}}`, "", nil},
		{"unknown", `domain: {machine: {type: pentium}}`, "spec.domain.machine.type", nil},
		{"of another architecture", `{architecture: arm64, domain: {machine: {type: q35}}}`, "spec.domain.machine.type", nil},
		{"arm64", `{architecture: arm64}`, "", nil},
		{"unknown architecture", `{architecture: pdp11}`, "spec.architecture", nil},
	})
}

func TestVolumes(t *testing.T) {
	volume := func(source string) string {
		return "volumes: [{name: root, containerDisk: {image: x}}, {name: v, " + source + "}]"
	}
	const at = "spec.volumes[1]"
	long := strings.Repeat("x", 2049)
	run(t, []tc{
		{"same name twice", `volumes: [{name: root, emptyDisk: {capacity: 1Gi}}, {name: root, emptyDisk: {capacity: 1Gi}}]`, "spec.volumes[1].name", nil},
		{"name in capitals", `{volumes: [{name: Root, emptyDisk: {capacity: 1Gi}}], domain: {devices: {disks: null}}}`, "spec.volumes[0].name", nil},
		{"name too long", `{volumes: [{name: ` + strings.Repeat("a", 64) + `, emptyDisk: {capacity: 1Gi}}], domain: {devices: {disks: null}}}`, "spec.volumes[0].name", nil},
		{"no source", `volumes: [{name: root}]`, "spec.volumes[0]", nil},
		{"two sources", volume(`emptyDisk: {capacity: 1Gi}, containerDisk: {image: x}`), at, nil},
		{"without a disk", volume(`emptyDisk: {capacity: 1Gi}`), "", nil},
		{"no image", volume(`containerDisk: {image: ""}`), at + ".containerDisk.image", nil},
		{"path in the image", volume(`containerDisk: {image: x, path: /disk/a.qcow2}`), "", nil},
		{"relative path", volume(`containerDisk: {image: x, path: disk/a.qcow2}`), at + ".containerDisk.path", nil},
		{"path out of the image", volume(`containerDisk: {image: x, path: /disk/../../etc/shadow}`), at + ".containerDisk.path", nil},
		{"path of the root", volume(`containerDisk: {image: x, path: /}`), at + ".containerDisk.path", nil},
		{"path with an option", volume(`containerDisk: {image: x, path: "/disk/a,readonly=off"}`), at + ".containerDisk.path", nil},
		{"pull policy", volume(`containerDisk: {image: x, imagePullPolicy: Sometimes}`), at + ".containerDisk.imagePullPolicy", nil},
		{"empty disk of nothing", volume(`emptyDisk: {capacity: "0"}`), at + ".emptyDisk.capacity", nil},
		{"claim", volume(`persistentVolumeClaim: {claimName: c}`), "", nil},
		{"no claim", volume(`persistentVolumeClaim: {claimName: ""}`), at + ".persistentVolumeClaim.claimName", nil},
		{"data volume", volume(`dataVolume: {name: d}`), "", nil},
		{"no data volume", volume(`dataVolume: {name: ""}`), at + ".dataVolume.name", nil},
		{"ephemeral", volume(`ephemeral: {persistentVolumeClaim: {claimName: c}}`), "", nil},
		{"ephemeral of nothing", volume(`ephemeral: {}`), at + ".ephemeral.persistentVolumeClaim.claimName", nil},
		{"config map", volume(`configMap: {name: c, volumeLabel: cfg}`), "", nil},
		{"no config map", volume(`configMap: {}`), at + ".configMap.name", nil},
		{"label too long", volume(`configMap: {name: c, volumeLabel: ` + strings.Repeat("l", 33) + `}`), at + ".configMap.volumeLabel", nil},
		{"label of two lines", volume(`secret: {secretName: c, volumeLabel: "a\nb"}`), at + ".secret.volumeLabel", nil},
		{"no secret", volume(`secret: {}`), at + ".secret.secretName", nil},
		{"service account", volume(`serviceAccount: {serviceAccountName: sa}`), "", nil},
		{"two service accounts", `volumes: [{name: root, serviceAccount: {serviceAccountName: a}}, {name: b, serviceAccount: {serviceAccountName: b}}]`, "spec.volumes", nil},
		{"sysprep", volume(`sysprep: {configMap: {name: c}}`), "", nil},
		{"sysprep of nothing", volume(`sysprep: {}`), at + ".sysprep", nil},
		{"sysprep of two", volume(`sysprep: {configMap: {name: c}, secret: {name: c}}`), at + ".sysprep", nil},
		{"host disk", volume(`hostDisk: {path: /data/a.img, type: DiskOrCreate, capacity: 1Gi}`), "", []string{"HostDisk"}},
		{"host disk without its gate", volume(`hostDisk: {path: /data/a.img, type: DiskOrCreate, capacity: 1Gi}`), at + ".hostDisk", nil},
		{"host disk without a size", volume(`hostDisk: {path: /data/a.img, type: DiskOrCreate}`), at + ".hostDisk.capacity", []string{"HostDisk"}},
		{"existing host disk with a size", volume(`hostDisk: {path: /data/a.img, type: Disk, capacity: 1Gi}`), at + ".hostDisk.capacity", []string{"HostDisk"}},
		{"host disk's type", volume(`hostDisk: {path: /data/a.img, type: Any}`), at + ".hostDisk.type", []string{"HostDisk"}},
		{"host disk's path", volume(`hostDisk: {path: ../a.img, type: Disk}`), at + ".hostDisk.path", []string{"HostDisk"}},
		{"downward metrics without its gate", volume(`downwardMetrics: {}`), at + ".downwardMetrics", nil},
		{"downward metrics", volume(`downwardMetrics: {}`), "", []string{"DownwardMetrics"}},
		{"container path without its gate", volume(`containerPath: {path: /x}`), at + ".containerPath", nil},
		{"two memory dumps", `volumes: [{name: root, memoryDump: {claimName: a}}, {name: b, memoryDump: {claimName: b}}]`, "spec.volumes", nil},

		{"user data", volume(`cloudInitNoCloud: {userData: "#cloud-config"}`), "", nil},
		{"network data alone", volume(`cloudInitNoCloud: {networkData: "version: 2"}`), "", nil},
		{"user data in a secret", volume(`cloudInitConfigDrive: {secretRef: {name: s}}`), "", nil},
		{"base64", volume(`cloudInitNoCloud: {userDataBase64: aGk=}`), "", nil},
		{"no user data", volume(`cloudInitNoCloud: {}`), at + ".cloudInitNoCloud", nil},
		{"two sorts of user data", volume(`cloudInitNoCloud: {userData: a, userDataBase64: aGk=}`), at + ".cloudInitNoCloud", nil},
		{"two sorts of network data", volume(`cloudInitConfigDrive: {userData: a, networkData: a, networkDataBase64: aGk=}`), at + ".cloudInitConfigDrive", nil},
		{"not base64", volume(`cloudInitNoCloud: {userDataBase64: "***"}`), at + ".cloudInitNoCloud.userDataBase64", nil},
		{"too much user data", volume(`cloudInitNoCloud: {userData: ` + long + `}`), at + ".cloudInitNoCloud", nil},
		{"just enough user data", volume(`cloudInitNoCloud: {userData: ` + long[1:] + `}`), "", nil},
		{"too much network data", volume(`cloudInitNoCloud: {userData: a, networkData: ` + long + `}`), at + ".cloudInitNoCloud", nil},
		{"keys instead of user data", volume(`cloudInitNoCloud: {}`) + "\naccessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}}}}]", "", nil},
	})
}

func TestDisks(t *testing.T) {
	disk := func(rest string) string { return "domain: {devices: {disks: [{name: root, " + rest + "}]}}" }
	const at = "spec.domain.devices.disks[0]"
	pvc := "\nvolumes: [{name: root, persistentVolumeClaim: {claimName: c}}]"
	run(t, []tc{
		{"missing volume", `domain: {devices: {disks: [{name: root, disk: {}}, {name: gone, disk: {}}]}}`, "spec.domain.devices.disks[1].name", nil},
		{"empty drive", `domain: {devices: {disks: [{name: root, disk: {}}, {name: drive, cdrom: {bus: sata}}]}}`, "", nil},
		{"same name twice", `domain: {devices: {disks: [{name: root, disk: {}}, {name: root, disk: {}}]}}`, "spec.domain.devices.disks[1].name", nil},
		{"virtio", disk(`disk: {bus: virtio}`), "", nil},
		{"sata", disk(`disk: {bus: sata}`), "", nil},
		{"scsi", disk(`disk: {bus: scsi}`), "", nil},
		{"usb", disk(`disk: {bus: usb}`), "", nil},
		{"ide", disk(`disk: {bus: ide}`), at + ".disk.bus", nil},
		{"unknown bus", disk(`disk: {bus: nvme}`), at + ".disk.bus", nil},
		{"virtio CD-ROM", disk(`cdrom: {bus: virtio}`), at + ".cdrom.bus", nil},
		{"sata CD-ROM", disk(`cdrom: {bus: sata, readonly: true, tray: open}`), "", nil},
		{"tray", disk(`cdrom: {bus: sata, tray: ajar}`), at + ".cdrom.tray", nil},
		{"two targets", disk(`disk: {}, cdrom: {}`), at, nil},
		{"lun of an image", disk(`lun: {bus: scsi}`), at + ".lun", nil},
		{"lun of a claim", disk(`lun: {bus: scsi, reservation: true}`) + pvc, "", nil},
		{"reservation on sata", disk(`lun: {bus: sata, reservation: true}`) + pvc, at + ".lun.reservation", nil},
		{"PCI address", disk(`disk: {bus: virtio, pciAddress: "0000:81:01.0"}`), "", nil},
		{"malformed PCI address", disk(`disk: {bus: virtio, pciAddress: "81:01"}`), at + ".disk.pciAddress", nil},
		{"PCI address on sata", disk(`disk: {bus: sata, pciAddress: "0000:81:01.0"}`), at + ".disk.pciAddress", nil},
		{"boot order", disk(`disk: {}, bootOrder: 1`), "", nil},
		{"boot order 0", disk(`disk: {}, bootOrder: 0`), at + ".bootOrder", nil},
		{
			"two boot orders", `domain: {devices: {disks: [{name: root, bootOrder: 1, disk: {}}], interfaces: [{name: default, masquerade: {}, bootOrder: 1}]}}`,
			"spec.domain.devices.interfaces[0].bootOrder", nil,
		},
		{"cache and io", disk(`disk: {}, cache: none, io: native`), "", nil},
		{"cache", disk(`disk: {}, cache: huge`), at + ".cache", nil},
		{"io", disk(`disk: {}, io: fast`), at + ".io", nil},
		{"error policy", disk(`disk: {}, errorPolicy: report`), "", nil},
		{"unknown error policy", disk(`disk: {}, errorPolicy: panic`), at + ".errorPolicy", nil},
		{"shareable with a cache", disk(`disk: {}, shareable: true, cache: writeback`), at + ".cache", nil},
		{"serial", disk(`disk: {}, serial: CVLY623300HK240D`), "", nil},
		{"serial too long", disk(`disk: {}, serial: ` + strings.Repeat("a", 257)), at + ".serial", nil},
		{"serial with a blank", disk(`disk: {}, serial: "a b"`), at + ".serial", nil},
		{"block size", disk(`disk: {}, blockSize: {custom: {logical: 512, physical: 4096}}`), "", nil},
		{"block size of the volume", disk(`disk: {}, blockSize: {matchVolume: {}}`), "", nil},
		{"both block sizes", disk(`disk: {}, blockSize: {matchVolume: {}, custom: {logical: 512, physical: 4096}}`), at + ".blockSize", nil},
		{"small blocks", disk(`disk: {}, blockSize: {custom: {logical: 256, physical: 4096}}`), at + ".blockSize.custom.logical", nil},
		{"huge blocks", disk(`disk: {}, blockSize: {custom: {logical: 512, physical: 4194304}}`), at + ".blockSize.custom.physical", nil},
		{"odd blocks", disk(`disk: {}, blockSize: {custom: {logical: 513, physical: 4096}}`), at + ".blockSize.custom.logical", nil},
		{"inverted blocks", disk(`disk: {}, blockSize: {custom: {logical: 4096, physical: 512}}`), at + ".blockSize.custom", nil},
		{"discard granularity", disk(`disk: {}, blockSize: {custom: {logical: 512, physical: 4096, discardGranularity: 700}}`), at + ".blockSize.custom.discardGranularity", nil},
		{"IO thread on sata", disk(`disk: {bus: sata}, dedicatedIOThread: true`), at + ".dedicatedIOThread", nil},
		{"IO thread on virtio", disk(`disk: {bus: virtio}, dedicatedIOThread: true`), "", nil},
		{"file system", `{domain: {devices: {disks: null, filesystems: [{name: root, virtiofs: {}}]}}, volumes: [{name: root, configMap: {name: c}}]}`, "", nil},
		{"file system of nothing", `domain: {devices: {filesystems: [{name: gone, virtiofs: {}}]}}`, "spec.domain.devices.filesystems[0].name", nil},
		{"file system and disk", `domain: {devices: {filesystems: [{name: root, virtiofs: {}}]}}`, "spec.domain.devices.filesystems[0].name", nil},
		{
			"file system of a claim", `{domain: {devices: {disks: null, filesystems: [{name: root, virtiofs: {}}]}}, volumes: [{name: root, persistentVolumeClaim: {claimName: c}}]}`,
			"spec.domain.devices.filesystems[0]", nil,
		},
	})
}
