//go:build e2e

package e2e

import (
	"fmt"
	"strings"
)

const restrictedNamespace = `
apiVersion: v1
kind: Namespace
metadata: {name: restricted, labels: {pod-security.kubernetes.io/enforce: restricted}}
`

const restrictedPod = `
apiVersion: v1
kind: Pod
metadata: {name: strict, namespace: restricted}
spec:
  securityContext:
    runAsUser: 107
    runAsNonRoot: true
    seccompProfile: {type: RuntimeDefault}
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
  containers:
  - name: probe
    image: ` + image + `
    args: [serve]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: image, mountPath: /image}]
  volumes:
  - name: image
    image: {reference: ` + image + `}
`

func webPod(name, node string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: web}}
spec:
  hostname: %[1]s
  subdomain: hosts
  nodeSelector: {kubernetes.io/hostname: %[2]s}
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers: [{name: probe, image: %[3]q, args: [serve]}]
`, name, node, image)
}

const webServices = `---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: hosts}
spec: {selector: {app: web}, clusterIP: None, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}
`

const claims = `---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: fs}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: block}
spec: {accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared-fs}
spec: {accessModes: [ReadWriteMany], storageClassName: shared, resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared-block}
spec: {accessModes: [ReadWriteMany], storageClassName: shared, volumeMode: Block, resources: {requests: {storage: 64Mi}}}
`

// volumePod uses claims as an unprivileged user; an empty name is left out. Names with "block" are devices.
func volumePod(name, node string, claims ...string) string {
	var mounts, devices, volumes []string
	for _, c := range claims {
		if c == "" {
			continue
		}
		volumes = append(volumes, fmt.Sprintf("{name: %[1]s, persistentVolumeClaim: {claimName: %[1]s}}", c))
		if strings.Contains(c, "block") {
			devices = append(devices, fmt.Sprintf("{name: %[1]s, devicePath: /dev/%[1]s}", c))
		} else {
			mounts = append(mounts, fmt.Sprintf("{name: %[1]s, mountPath: /%[1]s}", c))
		}
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeSelector: {kubernetes.io/hostname: %s}
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 107, runAsGroup: 107, fsGroup: 107}
  containers:
  - name: probe
    image: %s
    args: [serve]
    volumeMounts: [%s]
    volumeDevices: [%s]
  volumes: [%s]
`, name, node, image, strings.Join(mounts, ", "), strings.Join(devices, ", "), strings.Join(volumes, ", "))
}
