package metrics

import (
	"strconv"
)

// series is one metric made from one of libvirt's counters (virConnectGetAllDomainStats names them).
type series struct {
	name, help string
	// key is libvirt's name, after the prefix of its group.
	key     string
	counter bool
	// unit times libvirt's value is ours; 0 counts as 1.
	unit   float64
	labels []string
}

func (s series) factor() float64 {
	if s.unit == 0 {
		return 1
	}
	return s.unit
}

const (
	kibibyte   = 1024
	nanosecond = 1e-9
)

func processor() []series {
	return []series{
		{"kubevirt_vmi_cpu_usage_seconds_total", "Total CPU time spent in all modes (sum of both vcpu and hypervisor usage).", "cpu.time", true, nanosecond, nil},
		{"kubevirt_vmi_cpu_user_usage_seconds_total", "Total CPU time spent in user mode.", "cpu.user", true, nanosecond, nil},
		{"kubevirt_vmi_cpu_system_usage_seconds_total", "Total CPU time spent in system mode.", "cpu.system", true, nanosecond, nil},
	}
}

func memory() []series {
	return []series{
		{"kubevirt_vmi_memory_resident_bytes", "Resident set size of the process running the domain.", "balloon.rss", false, kibibyte, nil},
		{"kubevirt_vmi_memory_available_bytes", "Amount of usable memory as seen by the domain.", "balloon.available", false, kibibyte, nil},
		{"kubevirt_vmi_memory_unused_bytes", "The amount of memory left completely unused by the system.", "balloon.unused", false, kibibyte, nil},
		{"kubevirt_vmi_memory_cached_bytes", "The amount of memory that is being used to cache I/O and is available to be reclaimed.", "balloon.disk_caches", false, kibibyte, nil},
		{"kubevirt_vmi_memory_usable_bytes", "The amount of memory which can be reclaimed by balloon without pushing the guest system to swap.", "balloon.usable", false, kibibyte, nil},
		{"kubevirt_vmi_memory_actual_balloon_bytes", "Current balloon size in bytes.", "balloon.current", false, kibibyte, nil},
		{"kubevirt_vmi_memory_domain_bytes", "The amount of memory in bytes allocated to the domain.", "balloon.maximum", false, kibibyte, nil},
		{"kubevirt_vmi_memory_swap_in_traffic_bytes", "The total amount of data read from swap space of the guest in bytes.", "balloon.swap_in", false, kibibyte, nil},
		{"kubevirt_vmi_memory_swap_out_traffic_bytes", "The total amount of memory written out to swap space of the guest in bytes.", "balloon.swap_out", false, kibibyte, nil},
		{"kubevirt_vmi_memory_pgmajfault_total", "The number of page faults when disk IO was required.", "balloon.major_fault", true, 0, nil},
		{"kubevirt_vmi_memory_pgminfault_total", "The number of other page faults, when disk IO was not required.", "balloon.minor_fault", true, 0, nil},
		{"kubevirt_vmi_dirty_rate_bytes_per_second", "Guest dirty-rate in bytes per second.", "dirtyrate.megabytes_per_second", false, 1 << 20, nil},
	}
}

func vcpu() []series {
	id := []string{"id"}
	return []series{
		{"kubevirt_vmi_vcpu_wait_seconds_total", "Amount of time spent by each vcpu while waiting on I/O.", "wait", true, nanosecond, id},
		{"kubevirt_vmi_vcpu_delay_seconds_total", "Amount of time spent by each vcpu waiting in the queue instead of running.", "delay", true, nanosecond, id},
	}
}

var vcpuTime = series{"kubevirt_vmi_vcpu_seconds_total", "Total amount of time spent in each state by each vcpu (cpu_time excluding hypervisor time).", "time", true, nanosecond, []string{"id", "state"}}

func storage() []series {
	drive := []string{"drive"}
	return []series{
		{"kubevirt_vmi_storage_iops_read_total", "Total number of I/O read operations.", "rd.reqs", true, 0, drive},
		{"kubevirt_vmi_storage_iops_write_total", "Total number of I/O write operations.", "wr.reqs", true, 0, drive},
		{"kubevirt_vmi_storage_read_traffic_bytes_total", "Total number of bytes read from storage.", "rd.bytes", true, 0, drive},
		{"kubevirt_vmi_storage_write_traffic_bytes_total", "Total number of written bytes.", "wr.bytes", true, 0, drive},
		{"kubevirt_vmi_storage_read_times_seconds_total", "Total time spent on read operations.", "rd.times", true, nanosecond, drive},
		{"kubevirt_vmi_storage_write_times_seconds_total", "Total time spent on write operations.", "wr.times", true, nanosecond, drive},
		{"kubevirt_vmi_storage_flush_requests_total", "Total storage flush requests.", "fl.reqs", true, 0, drive},
		{"kubevirt_vmi_storage_flush_times_seconds_total", "Total time spent on cache flushing.", "fl.times", true, nanosecond, drive},
	}
}

func network() []series {
	link := []string{"interface"}
	return []series{
		{"kubevirt_vmi_network_receive_bytes_total", "Total network traffic received in bytes.", "rx.bytes", true, 0, link},
		{"kubevirt_vmi_network_receive_packets_total", "Total network traffic received packets.", "rx.pkts", true, 0, link},
		{"kubevirt_vmi_network_receive_errors_total", "Total network received error packets.", "rx.errs", true, 0, link},
		{"kubevirt_vmi_network_receive_packets_dropped_total", "The total number of rx packets dropped on vNIC interfaces.", "rx.drop", true, 0, link},
		{"kubevirt_vmi_network_transmit_bytes_total", "Total network traffic transmitted in bytes.", "tx.bytes", true, 0, link},
		{"kubevirt_vmi_network_transmit_packets_total", "Total network traffic transmitted packets.", "tx.pkts", true, 0, link},
		{"kubevirt_vmi_network_transmit_errors_total", "Total network transmitted error packets.", "tx.errs", true, 0, link},
		{"kubevirt_vmi_network_transmit_packets_dropped_total", "The total number of tx packets dropped on vNIC interfaces.", "tx.drop", true, 0, link},
	}
}

// traffic is the older way to count bytes, by direction.
var traffic = series{"kubevirt_vmi_network_traffic_bytes_total", "[Deprecated] Total number of bytes sent and received.", "", true, 0, []string{"interface", "type"}}

var (
	fsLabels   = []string{"disk_name", "file_system_type", "mount_point"}
	fsCapacity = series{"kubevirt_vmi_filesystem_capacity_bytes", "Total VM filesystem capacity in bytes.", "", false, 0, fsLabels}
	fsUsed     = series{"kubevirt_vmi_filesystem_used_bytes", "Used VM filesystem capacity in bytes.", "", false, 0, fsLabels}
)

func guestLoad() []series {
	return []series{
		{"kubevirt_vmi_guest_load_1m", "Guest system load average over 1 minute as reported by the guest agent.", "", false, 0, nil},
		{"kubevirt_vmi_guest_load_5m", "Guest system load average over 5 minutes as reported by the guest agent.", "", false, 0, nil},
		{"kubevirt_vmi_guest_load_15m", "Guest system load average over 15 minutes as reported by the guest agent.", "", false, 0, nil},
	}
}

// Bounds of what is believed of a launcher's counts.
const (
	maxVCPUs   = 1024
	maxDevices = 512
)

// all sends what libvirt counts.
func (g guest) all() {
	g.plain(processor(), "")
	g.plain(memory(), "")
	for i := range min(g.stats["vcpu.maximum"], maxVCPUs) {
		prefix, id := "vcpu."+strconv.FormatUint(i, 10)+".", strconv.FormatUint(i, 10)
		g.plain(vcpu(), prefix, id)
		if value, ok := g.stats[prefix+"time"]; ok {
			g.send(vcpuTime, float64(value)*nanosecond, id, vcpuState(g.stats[prefix+"state"]))
		}
	}
	for i := range min(g.stats["block.count"], maxDevices) {
		prefix := "block." + strconv.FormatUint(i, 10) + "."
		g.plain(storage(), prefix, g.drive(g.names[prefix+"name"]))
	}
	for i := range min(g.stats["net.count"], maxDevices) {
		prefix := "net." + strconv.FormatUint(i, 10) + "."
		link := g.link(i, g.names[prefix+"name"])
		g.plain(network(), prefix, link)
		g.send(traffic, float64(g.stats[prefix+"rx.bytes"]), link, "rx")
		g.send(traffic, float64(g.stats[prefix+"tx.bytes"]), link, "tx")
	}
}

// vcpuState is libvirt's virVcpuState in words.
func vcpuState(state uint64) string {
	switch state {
	case 0:
		return "offline"
	case 1:
		return "running"
	case 2:
		return "blocked"
	}
	return "unknown"
}

// drive is a disk's volume, or its device where no volume has it.
func (g guest) drive(device string) string {
	if g.vmi != nil {
		for _, v := range g.vmi.Status.VolumeStatus {
			if v.Target == device && device != "" {
				return v.Name
			}
		}
	}
	return device
}

// link is an interface's name in the object: libvirt counts them in the object's order. Its own name, the tap's, means nothing to
// a user.
func (g guest) link(i uint64, tap string) string {
	if g.vmi != nil && i < uint64(len(g.vmi.Spec.Domain.Devices.Interfaces)) {
		return g.vmi.Spec.Domain.Devices.Interfaces[i].Name
	}
	return tap
}
