package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const (
	// logCheck is how often the sizes of the logs are looked at, logLimit the size at which one is set aside.
	logCheck = time.Minute
	logLimit = 64 << 20
)

// trimLogs keeps the logs of a cluster that runs for long from filling the disk. The programs write to their own descriptors, so a log is
// copied and then emptied; a line written in between may be lost.
func (s *Server) trimLogs(ctx context.Context) {
	tick := time.NewTicker(logCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		paths, err := filepath.Glob(filepath.Join(s.options.LogDir(), "*.log"))
		if err != nil {
			return
		}
		for _, path := range paths {
			if err := trimLog(path, logLimit); err != nil {
				slog.Warn("trim log", "err", err)
			}
		}
	}
}

// trimLog moves the content of a log that is too large to a second file, replacing the one before.
func trimLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("set log aside: %w", err)
	}
	return os.Truncate(path, 0)
}
