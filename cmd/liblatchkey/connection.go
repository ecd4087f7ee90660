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
	"net"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/terminal"
)

// connection is one to a host over the terminal's TLS, for another protocol than that of messages. It ends with its terminal.
type connection struct {
	d                *device
	link             *terminal.Link
	conn             net.Conn
	unhook           func() bool // from the end of the terminal
	closed           atomic.Bool
	reading, writing atomic.Bool // by some thread
}

// Format prints what it is, whatever the verb.
func (c *connection) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "connection") }

var connections registry[*connection]

// end closes it. It may be called more than once.
func (c *connection) end() {
	if c.closed.Swap(true) {
		return
	}
	_ = c.conn.Close() // nothing more is wanted of it
	c.link.Close()
}

// during has f use the connection in one direction, alone, until a deadline. What ends because the connection was closed meanwhile, or its
// terminal, is errClosed.
func (c *connection) during(busy *atomic.Bool, f func() error) error {
	if c.d.guard.inside() || !busy.CompareAndSwap(false, true) {
		return errBusy
	}
	defer busy.Store(false)
	if c.closed.Load() {
		return errClosed
	}
	err := f()
	if err != nil && c.closed.Load() {
		return errClosed
	}
	return err
}

// until is when a call has used up its time.
func until(ms C.uint32_t) time.Time {
	if ms == 0 {
		return time.Now().Add(defaultTimeout)
	}
	return time.Now().Add(time.Duration(ms) * time.Millisecond)
}

//export lk_terminal_dial
func lk_terminal_dial(h C.lk_handle, endpoint *C.char, ms C.uint32_t, out *C.lk_handle) C.int {
	return call(func() error {
		url, err := text(endpoint)
		if err != nil || url == "" || out == nil {
			return errArgument
		}
		return with(h, func(d *device, t *terminal.Terminal) error {
			link, err := t.NewLink(terminal.Endpoint{URL: url})
			if err != nil {
				return err
			}
			ctx, cancel := d.within(ms)
			defer cancel()
			conn, err := link.Dial(ctx)
			if err != nil {
				link.Close()
				return err
			}
			c := &connection{d: d, link: link, conn: conn}
			c.unhook = context.AfterFunc(d.ctx, c.end)
			*out = connections.add(c)
			return nil
		})
	})
}

//export lk_go_connection_read
func lk_go_connection_read(h C.lk_handle, ms C.uint32_t, data *C.uint8_t, n *C.size_t) C.int {
	return call(func() error {
		out := outputOf(data, n)
		if err := out.apart(); err != nil {
			return err
		}
		c, err := connections.find(h)
		if err != nil {
			return err
		}
		room := min(out.size, C.LK_MAX_INPUT)
		if room == 0 || out.at == nil {
			*n = 1
			return errShortBuffer
		}
		return c.during(&c.reading, func() error {
			if err := c.conn.SetReadDeadline(until(ms)); err != nil {
				return err
			}
			got, err := c.conn.Read(span{out.at, room}.bytes())
			if got > 0 { // what comes with an end is given first
				*n = C.size_t(got)
				return nil
			}
			if errors.Is(err, io.EOF) {
				return errEnd
			}
			return err
		})
	})
}

//export lk_go_connection_write
func lk_go_connection_write(h C.lk_handle, ms C.uint32_t, data *C.uint8_t, n C.size_t) C.int {
	return call(func() error {
		in := input(data, n)
		if err := readable(in); err != nil {
			return err
		}
		c, err := connections.find(h)
		if err != nil {
			return err
		}
		return c.during(&c.writing, func() error {
			if err := c.conn.SetWriteDeadline(until(ms)); err != nil {
				return err
			}
			_, err := c.conn.Write(in.bytes())
			return err
		})
	})
}

//export lk_connection_close
func lk_connection_close(h C.lk_handle) C.int {
	return call(func() error {
		c, err := connections.find(h)
		if err != nil {
			return err
		}
		if c.d.guard.inside() {
			return errBusy
		}
		if err := connections.remove(h); err != nil {
			return err
		}
		c.unhook()
		c.end()
		return nil
	})
}
