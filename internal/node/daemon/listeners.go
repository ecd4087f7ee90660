package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

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

// AdminDoor is the one where operators of the machine look: health and metrics over plain HTTP.
func AdminDoor(address string, ready *serve.Readiness, metrics *prometheus.Registry, log *slog.Logger) *Door {
	return &Door{Name: "admin", Address: address, Late: true, Options: serve.Options{
		Handler: serve.Admin(ready, metrics), Logger: log,
	}}
}

// Doors are the listeners of a daemon. Run them; or Open them, tell their addresses, and Serve.
type Doors []*Door

// Run opens every listener, signs the first checkpoint, calls opened, and serves as Serve does. More checkpoints are signed
// beside the loops; the first one shows that they can be.
func (ds Doors) Run(ctx context.Context, c *Checkpoints, r *serve.Readiness, opened func(), loops ...func(context.Context) error) error {
	if err := ds.Open(ctx); err != nil {
		return err
	}
	if err := c.Sign(ctx); err != nil {
		return errors.Join(fmt.Errorf("checkpoint-file: %w", err), ds.Close())
	}
	opened()
	return ds.Serve(ctx, r.Drain, append(loops, c.Run)...)
}

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
