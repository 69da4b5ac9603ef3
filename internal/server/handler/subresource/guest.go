package subresource

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/status"
)

func (s *Server) guestOSInfo(w http.ResponseWriter, r *http.Request, vm target) error {
	return answer(w, r, vm, guestAgentInfo)
}

func (s *Server) userList(w http.ResponseWriter, r *http.Request, vm target) error {
	return answer(w, r, vm, func(info wire.GuestInfo) any {
		return v1.VirtualMachineInstanceGuestOSUserList{
			TypeMeta: typeMeta("VirtualMachineInstanceGuestOSUserList"), Items: users(info),
		}
	})
}

func (s *Server) filesystemList(w http.ResponseWriter, r *http.Request, vm target) error {
	return answer(w, r, vm, func(info wire.GuestInfo) any {
		return v1.VirtualMachineInstanceFileSystemList{
			TypeMeta: typeMeta("VirtualMachineInstanceFileSystemList"), Items: filesystems(info),
		}
	})
}

func answer(w http.ResponseWriter, r *http.Request, vm target, convert func(wire.GuestInfo) any) error {
	ctx, cancel := context.WithTimeout(r.Context(), agentTimeout)
	defer cancel()
	info, err := vm.client.GuestInfo(ctx)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, convert(info))
	return nil
}

func guestAgentInfo(info wire.GuestInfo) any {
	out := v1.VirtualMachineInstanceGuestAgentInfo{
		TypeMeta: typeMeta("VirtualMachineInstanceGuestAgentInfo"), GAVersion: info.AgentVersion, Hostname: info.Hostname,
		OS: status.GuestOS(info.OS), Timezone: info.Timezone, UserList: users(info), FSFreezeStatus: info.FSFreeze,
		FSInfo: v1.VirtualMachineInstanceFileSystemInfo{Filesystems: filesystems(info)},
	}
	for _, c := range info.Commands {
		out.SupportedCommands = append(out.SupportedCommands, v1.GuestAgentCommandInfo{Name: c.Name, Enabled: c.Enabled})
	}
	return out
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: v1.GroupVersion.String()}
}

func users(info wire.GuestInfo) []v1.VirtualMachineInstanceGuestOSUser {
	list := make([]v1.VirtualMachineInstanceGuestOSUser, 0, len(info.Users))
	for _, u := range info.Users {
		list = append(list, v1.VirtualMachineInstanceGuestOSUser{UserName: u.Name, Domain: u.Domain, LoginTime: u.LoginTime})
	}
	return list
}

func filesystems(info wire.GuestInfo) []v1.VirtualMachineInstanceFileSystem {
	list := make([]v1.VirtualMachineInstanceFileSystem, 0, len(info.Disks))
	for _, d := range info.Disks {
		fs := v1.VirtualMachineInstanceFileSystem{
			DiskName: d.Disk, MountPoint: d.MountPoint, FileSystemType: d.Type, UsedBytes: int(d.UsedBytes), TotalBytes: int(d.TotalBytes),
		}
		for _, dev := range d.Devices {
			fs.Disk = append(fs.Disk, v1.VirtualMachineInstanceFileSystemDisk{Serial: dev.Serial, BusType: dev.BusType})
		}
		list = append(list, fs)
	}
	return list
}
