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
	return &wire.Error{Code: codeOf(lverr.Code), Message: what + ": " + lverr.Message}
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
		libvirt.ERR_INVALID_ARG, libvirt.ERR_OPERATION_UNSUPPORTED, libvirt.ERR_ARGUMENT_UNSUPPORTED, libvirt.ERR_AGENT_COMMAND_FAILED:
		return wire.CodeInvalid
	}
	return wire.CodeInternal
}

// Lost tells that the error means that the daemon is gone, not that it refused.
func Lost(err error) bool {
	var e *wire.Error
	return errors.Is(err, errClosed) || errors.As(err, &e) && e.Code == wire.CodeUnavailable
}

var errClosed = errors.New("the connection to libvirt is closed")

func errNoDomain() error {
	return &wire.Error{Code: wire.CodeNotFound, Message: "no domain runs in this pod"}
}
