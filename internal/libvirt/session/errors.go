package session

import (
	"errors"

	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// wrap turns libvirt's error into one that says what the handler should do about it.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	var lverr libvirt.Error
	if !errors.As(err, &lverr) {
		return &wire.Error{Code: wire.CodeInternal, Message: what + ": " + err.Error()}
	}
	code := codeOf(lverr.Code)
	if lverr.Domain == libvirt.FROM_RPC && code == wire.CodeInternal {
		code = wire.CodeUnavailable // the daemon is gone, and is being started again
	}
	return &wire.Error{Code: code, Message: what + ": " + lverr.Message}
}

func codeOf(number libvirt.ErrorNumber) wire.Code {
	switch number {
	case libvirt.ERR_NO_DOMAIN, libvirt.ERR_DEVICE_MISSING, libvirt.ERR_NO_DOMAIN_METADATA:
		return wire.CodeNotFound
	case libvirt.ERR_OPERATION_INVALID, libvirt.ERR_DOM_EXIST, libvirt.ERR_MIGRATE_UNSAFE:
		return wire.CodeConflict
	case libvirt.ERR_AGENT_UNRESPONSIVE, libvirt.ERR_AGENT_UNSYNCED, libvirt.ERR_AGENT_COMMAND_TIMEOUT,
		libvirt.ERR_OPERATION_TIMEOUT, libvirt.ERR_RPC, libvirt.ERR_NO_CONNECT:
		return wire.CodeUnavailable
	case libvirt.ERR_XML_ERROR, libvirt.ERR_XML_DETAIL, libvirt.ERR_XML_INVALID_SCHEMA, libvirt.ERR_CONFIG_UNSUPPORTED,
		libvirt.ERR_NO_NAME, libvirt.ERR_NO_OS, libvirt.ERR_OS_TYPE, libvirt.ERR_NO_KERNEL, libvirt.ERR_NO_ROOT, libvirt.ERR_NO_SOURCE,
		libvirt.ERR_NO_TARGET, libvirt.ERR_NO_DEVICE, libvirt.ERR_INVALID_ARG, libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_ARGUMENT_UNSUPPORTED, libvirt.ERR_AGENT_COMMAND_FAILED:
		return wire.CodeInvalid
	}
	return wire.CodeInternal
}

func errNoDomain() error {
	return &wire.Error{Code: wire.CodeNotFound, Message: "no domain runs in this pod"}
}
