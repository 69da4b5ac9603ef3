package session

import (
	"bytes"
	"fmt"
	"io"

	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// maxScreenshot bounds a picture as QEMU writes it.
const maxScreenshot = 64 << 20

// Create starts a domain that exists only as long as it runs, stopped before its guest's first instruction.
func (s *Session) Create(xml string) error {
	d, err := s.conn.DomainCreateXML(xml, libvirt.DOMAIN_START_PAUSED)
	if err != nil {
		return wrap("start the domain", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.domain = d
	return nil
}

// on runs fn with the domain.
func (s *Session) on(what string, fn func(d *libvirt.Domain) error) error {
	d, err := s.lookup()
	if err != nil {
		return err
	}
	err = wrap(what, fn(d))
	if wire.CodeOf(err) == wire.CodeNotFound {
		s.forget()
	}
	return err
}

// XML returns the domain's document.
func (s *Session) XML(r wire.DomainXMLRequest) (string, error) {
	var flags libvirt.DomainXMLFlags
	if r.Inactive {
		flags |= libvirt.DOMAIN_XML_INACTIVE
	}
	if r.Migratable {
		flags |= libvirt.DOMAIN_XML_MIGRATABLE
	}
	var xml string
	err := s.on("read the domain's document", func(d *libvirt.Domain) (err error) {
		xml, err = d.GetXMLDesc(flags)
		return err
	})
	return xml, err
}

// PressPowerButton sends the ACPI event, which the guest may ignore.
func (s *Session) PressPowerButton() error {
	return s.on("press the power button", func(d *libvirt.Domain) error {
		return d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	})
}

// AgentPowerOff asks the guest agent to power off.
func (s *Session) AgentPowerOff() error {
	return s.on("ask the guest agent to power off", func(d *libvirt.Domain) error {
		return d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_GUEST_AGENT)
	})
}

// Destroy ends QEMU, first by SIGTERM so that it can flush its disks.
func (s *Session) Destroy(graceful bool) error {
	flags := libvirt.DOMAIN_DESTROY_DEFAULT
	if graceful {
		flags = libvirt.DOMAIN_DESTROY_GRACEFUL
	}
	return s.on("destroy the domain", func(d *libvirt.Domain) error { return d.DestroyFlags(flags) })
}

// Suspend stops the guest's processors.
func (s *Session) Suspend() error {
	return s.on("pause the domain", func(d *libvirt.Domain) error { return d.Suspend() })
}

// Resume lets them run.
func (s *Session) Resume() error {
	return s.on("unpause the domain", func(d *libvirt.Domain) error { return d.Resume() })
}

// Reset is the reset button.
func (s *Session) Reset() error {
	return s.on("reset the domain", func(d *libvirt.Domain) error { return d.Reset(0) })
}

// Reboot asks the guest to restart, by its agent or by ACPI.
func (s *Session) Reboot(agent bool) error {
	flags := libvirt.DOMAIN_REBOOT_ACPI_POWER_BTN
	if agent {
		flags = libvirt.DOMAIN_REBOOT_GUEST_AGENT
	}
	return s.on("reboot the domain", func(d *libvirt.Domain) error { return d.Reboot(flags) })
}

// Attach plugs a device.
func (s *Session) Attach(xml string) error {
	return s.on("attach the device", func(d *libvirt.Domain) error {
		return d.AttachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
	})
}

// Detach asks the guest to release a device; the event DeviceRemoved tells that it has.
func (s *Session) Detach(xml string) error {
	return s.on("detach the device", func(d *libvirt.Domain) error {
		return d.DetachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
	})
}

// Update changes a device.
func (s *Session) Update(xml string) error {
	return s.on("update the device", func(d *libvirt.Domain) error {
		return d.UpdateDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
	})
}

// SetVcpus plugs or unplugs virtual processors.
func (s *Session) SetVcpus(count uint) error {
	return s.on("set the number of virtual processors", func(d *libvirt.Domain) error {
		return d.SetVcpusFlags(count, libvirt.DOMAIN_VCPU_LIVE)
	})
}

// ResizeDisk makes a disk larger: a file to so many bytes, a block device to what it has become (0).
func (s *Session) ResizeDisk(target string, bytes uint64) error {
	flags := libvirt.DOMAIN_BLOCK_RESIZE_BYTES
	if bytes == 0 {
		flags = libvirt.DOMAIN_BLOCK_RESIZE_CAPACITY
	}
	return s.on("resize the disk", func(d *libvirt.Domain) error { return d.BlockResize(target, bytes, flags) })
}

// Dump writes the guest's memory and registers to a file, in the format that crash and volatility read.
func (s *Session) Dump(path string) error {
	return s.on("dump the guest's memory", func(d *libvirt.Domain) error {
		return d.CoreDumpWithFormat(path, libvirt.DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.DUMP_MEMORY_ONLY)
	})
}

// Agent runs one guest agent command. libvirt itself bounds the answer to 10 MiB.
func (s *Session) Agent(command string, timeoutSeconds int) (string, error) {
	var answer string
	err := s.on("guest agent", func(d *libvirt.Domain) (err error) {
		answer, err = d.QemuAgentCommand(command, libvirt.DomainQemuAgentCommandTimeout(timeoutSeconds), 0)
		return err
	})
	return answer, err
}

// Freeze freezes the guest's filesystems.
func (s *Session) Freeze() error {
	return s.on("freeze the guest's filesystems", func(d *libvirt.Domain) error { return d.FSFreeze(nil, 0) })
}

// Thaw undoes Freeze.
func (s *Session) Thaw() error {
	return s.on("thaw the guest's filesystems", func(d *libvirt.Domain) error { return d.FSThaw(nil, 0) })
}

// Screenshot returns a picture of the first screen and its media type.
func (s *Session) Screenshot() (data []byte, mediaType string, err error) {
	d, err := s.lookup()
	if err != nil {
		return nil, "", err
	}
	stream, err := s.conn.NewStream(0)
	if err != nil {
		return nil, "", wrap("take a screenshot", err)
	}
	defer func() { _ = stream.Free() }()
	mediaType, err = d.Screenshot(stream, 0, 0)
	if err != nil {
		return nil, "", wrap("take a screenshot", err)
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(streamReader{stream}, maxScreenshot+1)); err != nil {
		_ = stream.Abort()
		return nil, "", wrap("read the screenshot", err)
	}
	if buf.Len() > maxScreenshot {
		_ = stream.Abort()
		return nil, "", &wire.Error{Code: wire.CodeInternal, Message: fmt.Sprintf("the screenshot is larger than %d MiB", maxScreenshot>>20)}
	}
	return buf.Bytes(), mediaType, wrap("read the screenshot", stream.Finish())
}

type streamReader struct{ stream *libvirt.Stream }

func (r streamReader) Read(p []byte) (int, error) {
	n, err := r.stream.Recv(p)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	return n, err
}
