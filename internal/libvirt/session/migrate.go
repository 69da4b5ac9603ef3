package session

import (
	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// Migrate sends the domain away and returns when it has gone or the attempt has ended.
func (s *Session) Migrate(r wire.MigrateRequest) error {
	flags := libvirt.MIGRATE_LIVE | libvirt.MIGRATE_PEER2PEER
	params := &libvirt.DomainMigrateParameters{
		URISet: true, URI: "unix://" + r.MemorySocket,
	}
	if r.XML != "" {
		params.DestXMLSet, params.DestXML = true, r.XML
	}
	if r.BandwidthMiBps > 0 {
		params.BandwidthSet, params.Bandwidth = true, r.BandwidthMiBps
	}
	if len(r.Disks) > 0 {
		flags |= libvirt.MIGRATE_NON_SHARED_INC
		params.MigrateDisksSet, params.MigrateDisks = true, r.Disks
		params.DisksURISet, params.DisksURI = true, "unix://"+r.NBDSocket
	}
	if r.AutoConverge {
		flags |= libvirt.MIGRATE_AUTO_CONVERGE
	}
	if r.PostCopy {
		flags |= libvirt.MIGRATE_POSTCOPY
	}
	if r.Unsafe {
		flags |= libvirt.MIGRATE_UNSAFE
	}
	if r.Parallel > 1 {
		flags |= libvirt.MIGRATE_PARALLEL
		params.ParallelConnectionsSet, params.ParallelConnections = true, r.Parallel
	}
	return s.on("migrate the domain", func(d *libvirt.Domain) error {
		return d.MigrateToURI3(URI(r.LibvirtSocket), params, flags)
	})
}

// SetMaxDowntime bounds how long a running migration may stop the guest.
func (s *Session) SetMaxDowntime(millis uint64) error {
	return s.on("set the migration's maximum downtime", func(d *libvirt.Domain) error { return d.MigrateSetMaxDowntime(millis, 0) })
}

// AbortMigration ends the running migration.
func (s *Session) AbortMigration() error {
	return s.on("abort the migration", func(d *libvirt.Domain) error { return d.AbortJob() })
}

// StartPostCopy switches the running migration to post-copy.
func (s *Session) StartPostCopy() error {
	return s.on("switch the migration to post-copy", func(d *libvirt.Domain) error { return d.MigrateStartPostCopy(0) })
}

// Progress returns the account of the running job; ok is false when none runs.
func (s *Session) Progress() (progress wire.MigrationProgress, ok bool, err error) {
	err = s.on("read the migration's progress", func(d *libvirt.Domain) error {
		info, err := d.GetJobStats(0)
		if err != nil {
			return err
		}
		ok = info.Type == libvirt.DOMAIN_JOB_BOUNDED || info.Type == libvirt.DOMAIN_JOB_UNBOUNDED
		progress = progressOf(info)
		progress.DowntimeMillis = 0 // while it runs, libvirt gives here what it expects
		return nil
	})
	return progress, ok, err
}

// Arrival returns the account of the migration that brought the domain here.
func (s *Session) Arrival() (progress wire.MigrationProgress, err error) {
	err = s.on("read the migration's account", func(d *libvirt.Domain) error {
		info, err := d.GetJobStats(libvirt.DOMAIN_JOB_STATS_COMPLETED | libvirt.DOMAIN_JOB_STATS_KEEP_COMPLETED)
		if err != nil {
			return err
		}
		progress = progressOf(info)
		progress.Phase, progress.Done = "done", true
		return nil
	})
	return progress, err
}

func progressOf(info *libvirt.DomainJobInfo) wire.MigrationProgress {
	p := wire.MigrationProgress{
		Phase:             "precopy",
		ElapsedMillis:     info.TimeElapsed,
		TotalBytes:        info.DataTotal,
		ProcessedBytes:    info.DataProcessed,
		RemainingBytes:    info.DataRemaining,
		DirtyRateBytes:    info.MemDirtyRate * info.MemPageSize,
		TransferRateBytes: info.MemBps + info.DiskBps,
		DowntimeMillis:    info.Downtime,
		ThrottlePercent:   info.AutoConvergeThrottle,
	}
	switch {
	case info.MemPostcopyReqsSet && info.MemPostcopyReqs > 0:
		p.Phase = "postcopy"
	case info.DataTotal == 0:
		p.Phase = "setup"
	}
	return p
}
