// Package leading lets one of several replicas of a role work at a time.
package leading

import (
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Leadership changes hands within the lease time when a replica dies with its node, and at once when it stops in order.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Replica is one of those that take turns.
type Replica struct {
	// Lease is the name of the Lease, Namespace where it is.
	Lease, Namespace string
	// Name is the replica's in the Lease. One that was killed and started again under its name leads on at once.
	Name string
}

// Self is the replica that this program is, in its pod's name.
func Self(lease, namespace string) (*Replica, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this replica's name: %w", err)
	}
	return &Replica{lease, namespace, name}, nil
}

// Elect has a manager work only while its replica leads; without a replica it is the only one.
func (r *Replica) Elect(cluster *rest.Config, o *manager.Options) error {
	if r == nil {
		return nil
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, r.Namespace, r.Lease,
		resourcelock.ResourceLockConfig{Identity: r.Name}, cluster, renewDeadline)
	if err != nil {
		return fmt.Errorf("prepare the Lease %s: %w", r.Lease, err)
	}
	lease, renew, retry := leaseDuration, renewDeadline, retryPeriod
	o.LeaderElection, o.LeaderElectionResourceLockInterface = true, lock
	o.LeaderElectionID, o.LeaderElectionNamespace, o.LeaderElectionReleaseOnCancel = r.Lease, r.Namespace, true
	o.LeaseDuration, o.RenewDeadline, o.RetryPeriod = &lease, &renew, &retry
	return nil
}
