package imageupload

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"virtctl/internal/commands/terminal"
	"virtctl/internal/commands/volume"
)

// progress shows how far the upload is: a bar on a terminal, a line now and then in a pipe.
type progress struct {
	streams *terminal.Streams
	total   int64
	bar     *progressbar.ProgressBar

	mu    sync.Mutex
	done  int64
	moved int64
	began time.Time
	spoke time.Time
}

// every is how often a pipe gets a line.
const every = 5 * time.Second

func newProgress(streams *terminal.Streams, total int64) *progress {
	now := time.Now()
	p := &progress{streams: streams, total: total, began: now, spoke: now}
	if streams.ErrTTY {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(streams.Err), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionShowTotalBytes(true), progressbar.OptionSetPredictTime(total > 0), progressbar.OptionFullWidth(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetDescription("uploading"),
			progressbar.OptionSetRenderBlankState(true),
		)
	}
	return p
}

// at says where sending begins, or begins again.
func (p *progress) at(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = offset
	if p.bar != nil {
		_ = p.bar.Set64(offset)
	}
}

// position is how much of the content has been handed on.
func (p *progress) position() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	p.moved += int64(n)
	if p.bar != nil {
		_ = p.bar.Add(n)
		return
	}
	if now := time.Now(); now.Sub(p.spoke) >= every {
		p.spoke = now
		p.streams.Say("%s\n", p.line(now))
	}
}

// line is the progress in words.
func (p *progress) line(now time.Time) string {
	rate := float64(p.moved) / max(now.Sub(p.began).Seconds(), 0.001)
	if p.total <= 0 {
		return fmt.Sprintf("uploaded %s, %s/s", volume.Bytes(p.done), volume.Bytes(int64(rate)))
	}
	text := fmt.Sprintf("uploaded %s of %s (%d%%), %s/s", volume.Bytes(p.done), volume.Bytes(p.total), 100*p.done/p.total, volume.Bytes(int64(rate)))
	if rate > 0 && p.done < p.total {
		text += fmt.Sprintf(", %s left", time.Duration(float64(p.total-p.done)/rate*float64(time.Second)).Round(time.Second))
	}
	return text
}

// end shows the last of it, if anything was begun.
func (p *progress) end(complete bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		if complete {
			_ = p.bar.Finish()
		} else {
			_ = p.bar.Exit()
		}
		p.streams.Say("\n")
		return
	}
	p.streams.Say("%s\n", p.line(time.Now()))
}

// statusMessage is the message of an answer that is an API status, or "".
func statusMessage(body string) string {
	status := struct{ Kind, Message string }{}
	if json.Unmarshal([]byte(body), &status) != nil || status.Kind != "Status" {
		return ""
	}
	return status.Message
}
