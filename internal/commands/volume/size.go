package volume

import (
	"context"
	"fmt"
	"math"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
)

const mebibyte = 1 << 20

// Bytes writes a number of bytes for people: 1.5 GiB.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for i, name := range names {
		value /= unit
		// What would be written as 1024.0 KiB is 1.0 MiB.
		if value < unit-0.05 || i == len(names)-1 {
			return fmt.Sprintf("%.1f %s", value, name)
		}
	}
	return ""
}

// RoundUp makes a size of whole mebibytes, at least one.
func RoundUp(n int64) *resource.Quantity {
	whole := max(1, (n+mebibyte-1)/mebibyte)
	return resource.NewQuantity(whole*mebibyte, resource.BinarySI)
}

// DefaultOverhead is the share of a file system that its own bookkeeping takes, unless the cluster is configured otherwise.
const DefaultOverhead = 0.06

// Overhead is the share of a file system of the storage class that holds no data. Who may not read the configuration gets the
// default.
func Overhead(ctx context.Context, c *client.Client, class string) float64 {
	config, err := c.CDIConfigs().Get(ctx, names.CDIConfig)
	if err != nil || config.Status.FilesystemOverhead == nil {
		return DefaultOverhead
	}
	text := string(config.Status.FilesystemOverhead.Global)
	if own, ok := config.Status.FilesystemOverhead.StorageClass[class]; ok {
		text = string(own)
	}
	share, err := strconv.ParseFloat(text, 64)
	if err != nil || share < 0 || share >= 1 {
		return DefaultOverhead
	}
	return share
}

// WithOverhead is how large a file system must be to hold n bytes.
func WithOverhead(n int64, overhead float64) int64 {
	return int64(math.Ceil(float64(n) / (1 - overhead)))
}

// Capacity is how large a claim is, or will be; 0 when it does not say.
func Capacity(claim *corev1.PersistentVolumeClaim) int64 {
	for _, list := range []corev1.ResourceList{claim.Status.Capacity, claim.Spec.Resources.Requests} {
		if q, ok := list[corev1.ResourceStorage]; ok && q.Value() > 0 {
			return q.Value()
		}
	}
	return 0
}
