package storageprofile

import (
	"slices"
	"strings"
)

// unknown is the variant of a class whose parameters do not say what it makes.
const unknown = "UNKNOWN"

// variant tells which of a provisioner's kinds of volumes a class makes. Most make only one.
func variant(provisioner string, p map[string]string) string {
	switch provisioner {
	case "kubevirt.io.hostpath-provisioner":
		if _, overlay := p["overlayCSI"]; overlay {
			return "overlay"
		}
	case "kubernetes.io/portworx-volume":
		return sharedNFS(p)
	case "pxd.portworx.com":
		if backend, given := p["backend"]; given {
			return among(backend, "pure_block", "pure_fa_file")
		}
		return sharedNFS(p)
	case "csi.trident.netapp.io":
		return trident(p)
	case "infinibox-csi-driver":
		return by(p["storage_protocol"], unknown, map[string]string{
			"iscsi": "iscsiorfibrechannel", "fc": "iscsiorfibrechannel", "nvme": "nvme", "nfs": "nfs", "nfs_treeq": "nfs",
		})
	case "csi.vsphere.vmware.com":
		if strings.Contains(fsType(p), "nfs") {
			return "nfs"
		}
	case "csi-unity.dellemc.com":
		return among(strings.ToLower(p["protocol"]), "nfs")
	case "csi-powerstore.dellemc.com", "csi-vxflexos.dellemc.com", "csi-powermax.dellemc.com":
		return among(fsType(p), "nfs")
	case "csi.huawei.com":
		return among(p["protocol"], "nfs")
	case "ebs.csi.aws.com":
		return by(p["type"], "", map[string]string{"io1": "io1", "io2": "io2", "gp2": "gp", "gp3": "gp"})
	case "pd.csi.storage.gke.io":
		return by(p["type"], "", map[string]string{"hyperdisk-balanced": "hyperdisk", "hyperdisk-balanced-high-availability": "hyperdisk"})
	case "csi.san.synology.com":
		return by(p["protocol"], unknown, map[string]string{"": "iscsi", "iscsi": "iscsi", "smb": "smb", "nfs": "nfs", "nfs_treeq": "nfs"})
	case "driver.longhorn.io":
		return longhorn(p)
	case "vpc.file.csi.ibm.io":
		return ibmFile(p)
	}
	return ""
}

func trident(p map[string]string) string {
	backend := p["backendType"]
	switch {
	case strings.HasPrefix(backend, "ontap-nas"):
		return "ontap-nas"
	case strings.HasPrefix(backend, "ontap-san"):
		return "ontap-san"
	}
	labels := strings.FieldsFunc(p["selector"], func(r rune) bool { return r == ';' || r == ',' || r == ' ' || r == '\t' })
	if backend == "google-cloud-netapp-volumes" && slices.Contains(labels, "performance=flex") {
		return "gcnv-flex"
	}
	return unknown
}

func longhorn(p map[string]string) string {
	switch {
	case p["migratable"] == "true":
		return "migratable"
	case p["nfsOptions"] != "":
		return "nfs"
	case p["fsType"] != "":
		return "fs"
	}
	return ""
}

func ibmFile(p map[string]string) string {
	profile := among(p["profile"], "rfs", "dp2")
	if profile != "" && p["vmState"] == "true" {
		return profile + "-rwo"
	}
	return profile
}

func sharedNFS(p map[string]string) string {
	options := strings.Split(p["sharedv4_mount_options"], ",")
	if slices.Contains(options, "vers=3.0") && slices.Contains(options, "nolock") {
		return "nfs"
	}
	return ""
}

func fsType(p map[string]string) string { return strings.ToLower(p["csi.storage.k8s.io/fstype"]) }

func among(value string, known ...string) string {
	if slices.Contains(known, value) {
		return value
	}
	return ""
}

func by(value, otherwise string, known map[string]string) string {
	if v, found := known[value]; found {
		return v
	}
	return otherwise
}
