package park

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func pipe(t *testing.T) (kept, other *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return w, r
}

func TestLot(t *testing.T) {
	var l Lot
	kept, other := pipe(t)
	if err := l.Put("key", kept); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Take("another"); ok {
		t.Error("a stream was given for a key nobody has")
	}
	f, ok := l.Take("key")
	if !ok {
		t.Fatal("the stream is not there")
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	_ = f.Close()
	if _, err := other.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, ok := l.Take("key"); ok {
		t.Error("a stream was given twice")
	}
}

func TestLotIsBounded(t *testing.T) {
	var l Lot
	for n := range places {
		kept, _ := pipe(t)
		if err := l.Put(fmt.Sprint(n), kept); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range map[string]string{"one more": "more", "the same": "1", "long": strings.Repeat("k", maxKey+1), "empty": ""} {
		kept, _ := pipe(t)
		if err := l.Put(key, kept); err == nil {
			t.Errorf("%s was kept", name)
		}
		if _, err := kept.WriteString("x"); err == nil {
			t.Errorf("%s stays open", name)
		}
	}
	for n := range places {
		if f, ok := l.Take(fmt.Sprint(n)); ok {
			_ = f.Close()
		}
	}
}

// A stream for which nobody comes must not hold the guest's console for ever.
func TestLotForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lot
		kept, _ := pipe(t)
		if err := l.Put("key", kept); err != nil {
			t.Fatal(err)
		}
		time.Sleep(patience + time.Second)
		synctest.Wait()
		if _, ok := l.Take("key"); ok {
			t.Error("the stream is still there")
		}
		if _, err := kept.WriteString("x"); err == nil {
			t.Error("the stream is still open")
		}
	})
}
