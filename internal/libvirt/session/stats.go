package session

/*
#cgo pkg-config: libvirt
#include <stdlib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

// One record of one connection; the caller frees it. The error is read on the thread that failed.
static int launcherDomainStats(virConnectPtr conn, virDomainStatsRecordPtr **records, char *message, size_t size) {
	int n = virConnectGetAllDomainStats(conn, 0, records, VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);
	if (n < 0) {
		virErrorPtr err = virGetLastError();
		message[0] = 0;
		if (err && err->message) {
			size_t i;
			for (i = 0; i < size - 1 && err->message[i]; i++)
				message[i] = err->message[i];
			message[i] = 0;
		}
	}
	return n;
}
static virTypedParameterPtr launcherParam(virDomainStatsRecordPtr *records, int i) { return &records[0]->params[i]; }
static int launcherParamCount(virDomainStatsRecordPtr *records) { return records[0]->nparams; }
static const char *launcherParamString(virTypedParameterPtr p) { return p->value.s; }
static unsigned long long launcherParamNumber(virTypedParameterPtr p) {
	switch (p->type) {
	case VIR_TYPED_PARAM_INT: return p->value.i < 0 ? 0 : p->value.i;
	case VIR_TYPED_PARAM_UINT: return p->value.ui;
	case VIR_TYPED_PARAM_LLONG: return p->value.l < 0 ? 0 : p->value.l;
	case VIR_TYPED_PARAM_ULLONG: return p->value.ul;
	case VIR_TYPED_PARAM_BOOLEAN: return p->value.b != 0;
	case VIR_TYPED_PARAM_DOUBLE: return p->value.d < 0 ? 0 : p->value.d;
	}
	return 0;
}
*/
import "C"

import (
	"unsafe"

	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// maxStats bounds how many counters are passed on; a machine with hundreds of disks has some thousands.
const maxStats = 16384

// Stats returns everything virConnectGetAllDomainStats counts, by libvirt's own names. The binding's struct would lose the names
// and every counter newer than itself, so this reads the parameters directly.
func (s *Session) Stats() (wire.Stats, error) {
	raw, err := s.conn.RawPtr()
	if err != nil {
		return wire.Stats{}, wrap("read the domain's counters", err)
	}
	defer func() { _, _ = libvirt.CloseRawPtr(raw) }()
	var records *C.virDomainStatsRecordPtr
	message := (*C.char)(C.calloc(1, 256))
	defer C.free(unsafe.Pointer(message))
	n := C.launcherDomainStats(C.virConnectPtr(unsafe.Pointer(raw)), &records, message, 256)
	if n < 0 {
		return wire.Stats{}, &wire.Error{Code: wire.CodeInternal, Message: "read the domain's counters: " + C.GoString(message)}
	}
	defer C.virDomainStatsRecordListFree(records)
	if n == 0 {
		return wire.Stats{}, errNoDomain()
	}
	count := min(int(C.launcherParamCount(records)), maxStats)
	stats := wire.Stats{Values: make(map[string]uint64, count), Names: map[string]string{}}
	for i := range count {
		p := C.launcherParam(records, C.int(i))
		name := C.GoString(&p.field[0])
		if p._type == C.VIR_TYPED_PARAM_STRING {
			stats.Names[name] = C.GoString(C.launcherParamString(p))
			continue
		}
		stats.Values[name] = uint64(C.launcherParamNumber(p))
	}
	return stats, nil
}
