package clusterconfig

import (
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
)

// Migration is how live migrations run. A MigrationPolicy may override part of it for one VM.
type Migration struct {
	NodeDrainTaintKey string
	// ParallelPerCluster and ParallelOutboundPerNode bound how many run at once.
	ParallelPerCluster, ParallelOutboundPerNode uint32
	// Bandwidth of one migration per second; zero means no limit.
	Bandwidth resource.Quantity
	// CompletionSecondsPerGiB bounds a migration by the guest's size; ProgressSeconds bounds a migration that stands still.
	CompletionSecondsPerGiB, ProgressSeconds int64
	// UtilityVolumesSeconds bounds the wait for utility volumes to go.
	UtilityVolumesSeconds int64
	MaxDowntimeMillis     uint64
	AllowAutoConverge     bool
	AllowPostCopy         bool
	// AllowWorkloadDisruption lets a migration that takes too long pause the guest or switch to post-copy.
	AllowWorkloadDisruption bool
	UnsafeOverride          bool
	DisableTLS              bool
	// Network is the NetworkAttachmentDefinition migrations run over; empty means the pod network.
	Network           string
	MatchSELinuxLevel bool
}

func migration(set *v1.MigrationConfiguration) Migration {
	m := Migration{
		NodeDrainTaintKey:       "kubevirt.io/drain",
		ParallelPerCluster:      5,
		ParallelOutboundPerNode: 2,
		CompletionSecondsPerGiB: 150,
		ProgressSeconds:         150,
		UtilityVolumesSeconds:   150,
		MaxDowntimeMillis:       900,
		MatchSELinuxLevel:       true,
	}
	if set == nil {
		return m
	}
	take(&m.NodeDrainTaintKey, set.NodeDrainTaintKey)
	take(&m.ParallelPerCluster, set.ParallelMigrationsPerCluster)
	take(&m.ParallelOutboundPerNode, set.ParallelOutboundMigrationsPerNode)
	take(&m.Bandwidth, set.BandwidthPerMigration)
	take(&m.CompletionSecondsPerGiB, set.CompletionTimeoutPerGiB)
	take(&m.ProgressSeconds, set.ProgressTimeout)
	take(&m.UtilityVolumesSeconds, set.UtilityVolumesTimeout)
	take(&m.MaxDowntimeMillis, set.MaxDowntimeMs)
	take(&m.AllowAutoConverge, set.AllowAutoConverge)
	take(&m.AllowPostCopy, set.AllowPostCopy)
	m.AllowWorkloadDisruption = m.AllowPostCopy
	take(&m.AllowWorkloadDisruption, set.AllowWorkloadDisruption)
	take(&m.UnsafeOverride, set.UnsafeMigrationOverride)
	take(&m.DisableTLS, set.DisableTLS)
	take(&m.Network, set.Network)
	take(&m.MatchSELinuxLevel, set.MatchSELinuxLevelOnMigration)
	return m
}

func take[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
