//go:build cgo && !core

package main

/*
#include "api.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/terminal"
)

const defaultTimeout = 30 * time.Second

// device is a terminal as C sees it: a folder at first, open later.
type device struct {
	medium  terminal.FS
	sealer  terminal.Sealer // nil: the key in the folder
	engine  terminal.Engine // nil: the library's own
	reserve int
	calls   sync.WaitGroup // under way
	guard   *guard
	ctx     context.Context // ends with the handle
	cancel  func()
	running atomic.Bool // what lk_terminal_run does

	mu      sync.Mutex // of what follows
	closed  bool
	working bool // something is under way that comes before Open
	t       *terminal.Terminal
	detail  string
	body    []byte
}

// Format prints what it is, whatever the verb.
func (d *device) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "device") }

var devices registry[*device]

// guard knows which threads are in a callback. A call from there with the handle of the callback would wait for itself.
type guard struct {
	mu      sync.Mutex
	threads map[int]int
}

// during has f call back. The thread stays the same: a goroutine that has come from C is bound to its thread, and one that has not is
// bound here.
func (g *guard) during(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	id := syscall.Gettid()
	g.count(id, 1)
	defer g.count(id, -1)
	f()
}

func (g *guard) count(id, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.threads[id] += n; g.threads[id] == 0 {
		delete(g.threads, id)
	}
}

func (g *guard) inside() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.threads[syscall.Gettid()] > 0
}

// enter finds a device and counts the call in; leave follows.
func enter(h C.lk_handle) (*device, error) {
	d, err := devices.find(h)
	if err != nil {
		return nil, err
	}
	if d.guard.inside() {
		return nil, errBusy
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errHandle
	}
	d.calls.Add(1)
	return d, nil
}

// leave counts the call out and keeps what it says.
func (d *device) leave(err error) error {
	if err != nil {
		d.tell(err)
	}
	d.calls.Done()
	return err
}

// tell keeps what an error says.
func (d *device) tell(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.detail = err.Error()
}

// before has f work on a device that is not open, alone.
func before(h C.lk_handle, f func(*device) error) error {
	d, err := enter(h)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			d.calls.Done()
			panic(r)
		}
	}()
	d.mu.Lock()
	busy, open := d.working, d.t != nil
	d.working = !open
	d.mu.Unlock()
	switch {
	case open:
		return d.leave(errOrder)
	case busy:
		return d.leave(errBusy)
	}
	err = f(d)
	d.mu.Lock()
	d.working = false
	d.mu.Unlock()
	return d.leave(err)
}

// with has f work on a terminal that is open.
func with(h C.lk_handle, f func(*device, *terminal.Terminal) error) error {
	d, err := enter(h)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			d.calls.Done()
			panic(r)
		}
	}()
	d.mu.Lock()
	t := d.t
	d.mu.Unlock()
	if t == nil {
		return d.leave(errOrder)
	}
	err = f(d, t)
	if err != nil && d.ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errClosed, err)
	}
	return d.leave(err)
}

// within gives a call its time.
func (d *device) within(ms C.uint32_t) (context.Context, func()) {
	timeout := time.Duration(ms) * time.Millisecond
	if ms == 0 {
		timeout = defaultTimeout
	}
	return context.WithTimeout(d.ctx, timeout)
}

// options are those of a terminal in the folder. What is sealed by nobody is guarded by a key in the folder.
func (d *device) options(create bool) (terminal.Options, error) {
	o := terminal.Options{FS: d.medium, Sealer: d.sealer, Engine: d.engine, Reserve: d.reserve}
	var err error
	switch {
	case o.Sealer != nil:
	case create:
		o.Sealer, err = terminal.CreateInsecureFile(d.medium)
	default:
		o.Sealer, err = terminal.OpenInsecureFile(d.medium)
		if errors.Is(err, fs.ErrNotExist) {
			err = terminal.ErrNoTerminal
		}
	}
	return o, err
}

//export lk_terminal_new
func lk_terminal_new(o *C.lk_options, h *C.lk_handle) C.int {
	return call(func() error {
		if err := sized(o); err != nil {
			return err
		}
		folder, err := text(o.folder)
		if err != nil || folder == "" || h == nil || o.reserve > 32 {
			return errArgument
		}
		if spanOf(h).overlaps(spanOf(o)) {
			return errOverlap
		}
		d := &device{medium: terminal.OSFS(folder), reserve: int(o.reserve), guard: &guard{threads: make(map[int]int)}}
		if o.sealer != nil {
			if d.sealer, err = newSealer(o.sealer, d.guard); err != nil {
				return err
			}
		}
		if o.engine != nil {
			if d.engine, err = newEngine(o.engine, d.guard); err != nil {
				return err
			}
		}
		d.ctx, d.cancel = context.WithCancel(context.Background())
		*h = devices.add(d)
		return nil
	})
}

//export lk_go_terminal_detail
func lk_go_terminal_detail(h C.lk_handle, buffer *C.char, n *C.size_t) C.int {
	return call(func() error {
		out := outputOf((*C.uint8_t)(ptr(buffer)), n)
		if err := out.apart(); err != nil {
			return err
		}
		d, err := devices.find(h)
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return out.give(append([]byte(d.detail), 0))
	})
}

//export lk_terminal_doctor
func lk_terminal_doctor(h C.lk_handle, ms C.uint32_t, broken *C.uint32_t) C.int {
	return call(func() error {
		if broken == nil {
			return errArgument
		}
		return before(h, func(d *device) error {
			o, err := d.options(false)
			if err != nil {
				return err
			}
			ctx, cancel := d.within(ms)
			defer cancel()
			var lines strings.Builder
			count := 0
			for _, c := range terminal.Diagnose(ctx, o) {
				if c.Verdict == terminal.Broken {
					count++
				}
				fmt.Fprintf(&lines, "%v\t%s\t%s\t%s\t%s\n", c.Verdict, c.Name, c.Of, c.Detail, c.Next)
			}
			d.mu.Lock()
			d.detail = lines.String()
			d.mu.Unlock()
			*broken = C.uint32_t(count)
			return nil
		})
	})
}

//export lk_terminal_open
func lk_terminal_open(h C.lk_handle) C.int {
	return call(func() error {
		return before(h, func(d *device) error {
			o, err := d.options(false)
			if err != nil {
				return err
			}
			t, err := terminal.Open(o)
			if err != nil {
				return err
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.t = t
			return nil
		})
	})
}

//export lk_terminal_network_changed
func lk_terminal_network_changed(h C.lk_handle) C.int {
	return call(func() error {
		return with(h, func(_ *device, t *terminal.Terminal) error {
			t.NetworkChanged()
			return nil
		})
	})
}

//export lk_terminal_zeroize
func lk_terminal_zeroize(h C.lk_handle) C.int {
	return call(func() error {
		return with(h, func(_ *device, t *terminal.Terminal) error { return t.Zeroize() })
	})
}

//export lk_terminal_close
func lk_terminal_close(h C.lk_handle) C.int {
	return call(func() error {
		d, err := devices.find(h)
		if err != nil {
			return err
		}
		if d.guard.inside() {
			return errBusy
		}
		if err := devices.remove(h); err != nil {
			return err
		}
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
		d.cancel()
		d.calls.Wait()
		if d.t == nil {
			return nil
		}
		return d.t.Close()
	})
}
