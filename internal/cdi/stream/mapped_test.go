package stream

import (
	"bytes"
	"testing"
)

// formats are the ways qemu-img writes disks that are decoded in order.
func formats() map[string][]string {
	return map[string][]string{
		"qcow2":               {"-O", "qcow2"},
		"qcow2 v2":            {"-O", "qcow2", "-o", "compat=0.10"},
		"qcow2 zlib":          {"-c", "-O", "qcow2"},
		"qcow2 zlib parallel": {"-c", "-W", "-m", "8", "-O", "qcow2"},
		"qcow2 zstd":          {"-c", "-O", "qcow2", "-o", "compression_type=zstd"},
		"qcow2 subclusters":   {"-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"},
		"qcow2 subcl zlib":    {"-c", "-O", "qcow2", "-o", "extended_l2=on,cluster_size=16k"},
		"qcow2 512":           {"-O", "qcow2", "-o", "cluster_size=512"},
		"qcow2 512 zlib":      {"-c", "-O", "qcow2", "-o", "cluster_size=512"},
		"qcow2 4k zlib":       {"-c", "-O", "qcow2", "-o", "cluster_size=4k"},
		"qcow2 2M":            {"-O", "qcow2", "-o", "cluster_size=2M"},
		"qcow2 2M zlib":       {"-c", "-O", "qcow2", "-o", "cluster_size=2M"},
		"qcow2 2M zstd":       {"-c", "-O", "qcow2", "-o", "cluster_size=2M,compression_type=zstd"},
		"qcow2 prealloc":      {"-O", "qcow2", "-o", "preallocation=metadata"},
		"vdi":                 {"-O", "vdi"},
		"vdi static":          {"-O", "vdi", "-o", "static=on"},
		"vpc":                 {"-O", "vpc", "-o", "force_size"},
		"vmdk":                {"-O", "vmdk"},
		"vmdk stream":         {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		"vhdx":                {"-O", "vhdx"},
		"vhdx 1M":             {"-O", "vhdx", "-o", "block_size=1M"},
		"vpc fixed":           {"-O", "vpc", "-o", "force_size,subformat=fixed"},
	}
}

// Every format that is decoded in order gives the same disk as it was made of.
func TestFormats(t *testing.T) {
	disk := pattern(11, 6<<20+512)
	for name, args := range formats() {
		t.Run(name, func(t *testing.T) {
			src := makeImage(t, disk, args...)
			res, path := mustCopy(t, bytes.NewReader(src), Options{Size: int64(len(src))})
			checkDisk(t, path, disk)
			checkDigest(t, res, src)
		})
	}
}

// An upload that is cut anywhere, in a header, a table or a cluster, goes on where it stopped.
func TestFormatsResume(t *testing.T) {
	disk := pattern(12, 2<<20)
	for name, args := range formats() {
		t.Run(name, func(t *testing.T) {
			src := makeImage(t, disk, args...)
			n := int64(len(src))
			cuts := []int64{3, 700}
			for i := int64(1); i < 9; i++ {
				cuts = append(cuts, 700+i*(n-800)/9)
			}
			res, path, sent := resumeAll(t, src, cuts)
			checkDisk(t, path, disk)
			checkDigest(t, res, src)
			if extra := sent - n; extra > n*3 {
				t.Errorf("%d of %d bytes were sent again", extra, n)
			}
			t.Logf("%d of %d bytes were sent again after %d cuts", sent-n, n, len(cuts))
		})
	}
}
