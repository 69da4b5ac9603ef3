package stream

import (
	"runtime"
	"sync"

	"virtctl/internal/cdi/image"
)

// job is a piece of the source that belongs at off of the disk. It is done in any order.
type job struct {
	src  view
	off  int64
	then unpacker // nil: the bytes are the disk's own
}

// unpacker turns a job's bytes into the disk's, with a worker's own tools.
type unpacker func(w *worker, b []byte) ([]byte, error)

// engine writes jobs to the target on all processors.
type engine struct {
	out  *target
	jobs chan job
	done sync.WaitGroup // the workers
	busy sync.WaitGroup // the jobs
	mu   sync.Mutex
	err  error
}

// maxWorkers bounds the memory for unpacked clusters.
const maxWorkers = 4

func newEngine(out *target) *engine {
	n := min(max(runtime.GOMAXPROCS(0), 1), maxWorkers)
	e := &engine{out: out, jobs: make(chan job, n)}
	for range n {
		e.done.Go(func() {
			w := &worker{}
			defer w.close()
			for j := range e.jobs {
				e.do(w, j)
			}
		})
	}
	return e
}

func (e *engine) do(w *worker, j job) {
	defer e.busy.Done()
	defer j.src.release()
	if e.failed() != nil {
		return
	}
	b, err := j.src.b, error(nil)
	if j.then != nil {
		b, err = j.then(w, b)
	}
	if err == nil {
		err = e.out.write(j.off, b)
	}
	if err != nil {
		e.fail(err)
	}
}

// submit hands a job over; its view is released when it is done.
func (e *engine) submit(j job) {
	e.busy.Add(1)
	e.jobs <- j
}

func (e *engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

func (e *engine) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// settle waits until every job handed over is on the target.
func (e *engine) settle() error {
	e.busy.Wait()
	return e.failed()
}

func (e *engine) close() {
	close(e.jobs)
	e.done.Wait()
}

// decoder reads one format.
type decoder interface {
	// step handles some of the source; true when the disk is complete. Data goes to the engine.
	step() (bool, error)
	// offset is how much of the source is handled; resuming begins there.
	offset() int64
	// state is what resuming needs beside the target's content, when every job is done.
	state() ([]byte, error)
	// virtual is the disk's size, -1 when the source's end tells it.
	virtual() int64
	format() image.Format
}
