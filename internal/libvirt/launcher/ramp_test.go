package launcher

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A guest is given more time to stand still only when all its memory has been sent and what it changes does not get less.
func TestRampDowntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := &migrationRun{sent: make(chan struct{}), done: make(chan struct{})}
		type step struct {
			after  time.Duration
			millis uint64
		}
		var steps []step
		var began time.Time
		go run.rampDowntime(100, func(millis uint64) error {
			steps = append(steps, step{time.Since(began), millis})
			return nil
		})
		time.Sleep(time.Hour) // a big guest
		began = time.Now()
		close(run.sent)
		time.Sleep(time.Hour)
		if want := []step{{time.Second, 40}, {3 * time.Second, 80}, {7 * time.Second, 100}}; !slices.Equal(steps, want) {
			t.Errorf("allowed %v, want %v", steps, want)
		}
	})
}

func TestRampEndsWithTheMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := &migrationRun{sent: make(chan struct{}), done: make(chan struct{})}
		close(over.done)
		over.rampDowntime(100, func(uint64) error {
			t.Error("a migration that is over was changed")
			return nil
		})
		refused := &migrationRun{sent: make(chan struct{}), done: make(chan struct{})}
		close(refused.sent)
		calls := 0
		refused.rampDowntime(100, func(uint64) error {
			calls++
			return errors.New("no migration runs")
		})
		if calls != 1 {
			t.Errorf("tried %d times", calls)
		}
	})
}

func TestSentOnce(t *testing.T) {
	m := &migration{}
	m.sentOnce() // of a migration that another launcher began
	m.run = &migrationRun{sent: make(chan struct{})}
	m.sentOnce()
	m.sentOnce()
	<-m.run.sent
}
