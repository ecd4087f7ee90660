package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

// Door is a listener and what answers there.
type Door struct {
	Name    string // of the member with its address, for errors
	Address string
	Options serve.Options
	Late    bool // keeps answering until the others have finished: for operators
	ln      net.Listener
}

// Doors are the listeners of a daemon. Open them, tell their addresses, and Serve.
type Doors []*Door

// Open opens every listener, or none.
func (ds Doors) Open(ctx context.Context) error {
	var lc net.ListenConfig
	for i, d := range ds {
		ln, err := lc.Listen(ctx, "tcp", d.Address)
		if err != nil {
			err = fmt.Errorf("%s: %w", d.Name, err)
			for _, open := range ds[:i] {
				err = errors.Join(err, open.ln.Close())
			}
			return err
		}
		d.ln = ln
	}
	return nil
}

// Close closes listeners that were opened and never served.
func (ds Doors) Close() error {
	var errs []error
	for _, d := range ds {
		if d.ln != nil {
			errs = append(errs, d.ln.Close())
		}
	}
	return errors.Join(errs...)
}

// Addr returns the address that a listener got.
func (d *Door) Addr() string { return d.ln.Addr().String() }

// Serve serves until ctx ends, or a listener or a loop fails, and then lets requests under way finish: the late doors last.
// The loops run beside them, with a context that ends with the requests. drain is called when the end begins.
func (ds Doors) Serve(ctx context.Context, drain func(), loops ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var mu sync.Mutex
	var failed error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failed = errors.Join(failed, err)
	}
	var early, all sync.WaitGroup
	for _, d := range ds {
		group, until := &early, ctx
		if d.Late {
			group, until = &all, late
		}
		group.Go(func() { defer stop(); fail(serve.Run(until, d.ln, d.Options)) })
	}
	for _, loop := range loops {
		all.Go(func() { defer stop(); fail(loop(late)) })
	}
	<-ctx.Done()
	drain()
	early.Wait()
	end()
	all.Wait()
	return failed
}
