package terminaltest

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/terminal"
)

// Fault is what befalls one attempt to deliver a message.
type Fault uint8

// The faults.
const (
	None          Fault = iota
	RequestLost         // the host never sees it
	AnswerLost          // the host answers, the terminal never sees that
	AnswerGarbage       // noise comes back
	AnswerForged        // the last bit of the MAC is flipped
	AnswerStale         // the answer to an earlier message comes back
)

// ErrLost is what an attempt without an answer gives.
var ErrLost = errors.New("terminaltest: no answer")

// Wire is a terminal.Exchanger straight to a host. It is used by one goroutine at a time.
type Wire struct {
	Host     *Host
	Attempts int                  // attempts of one exchange; 0: until a HostError or the context ends
	Fault    func() Fault         // asked before each attempt; nil: no faults
	Sent     [][]byte             // every message that left the terminal
	Before   func()               // called before each attempt; nil: nothing
	Taken    func(message []byte) // called when the terminal has taken an answer; nil: nothing
	last     []byte               // the last genuine answer
}

// Exchange implements terminal.Exchanger.
func (w *Wire) Exchange(ctx context.Context, message []byte, accept func([]byte) error) error {
	var err error
	for n := 0; w.Attempts == 0 || n < w.Attempts; n++ {
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err = w.attempt(message, accept); err == nil {
			return nil
		}
		if refused, ok := errors.AsType[*terminal.HostError](err); ok {
			return refused
		}
	}
	return err
}

func (w *Wire) attempt(message []byte, accept func([]byte) error) error {
	if w.Before != nil {
		w.Before()
	}
	fault := None
	if w.Fault != nil {
		fault = w.Fault()
	}
	w.Sent = append(w.Sent, message)
	if fault == RequestLost {
		return ErrLost
	}
	answer, err := w.Host.Receive(message)
	if err != nil {
		return &terminal.HostError{Status: 400, Code: "Refused", Message: err.Error()}
	}
	stale := w.last
	w.last = answer
	switch fault {
	case AnswerLost:
		return ErrLost
	case AnswerGarbage:
		return accept([]byte("<html>not found</html>"))
	case AnswerForged:
		forged := append([]byte{}, answer...)
		forged[len(forged)-1] ^= 1
		return accept(forged)
	case AnswerStale:
		if stale == nil {
			return ErrLost
		}
		return accept(stale)
	case None:
		err := accept(answer)
		if err == nil && w.Taken != nil {
			w.Taken(message)
		}
		return err
	default:
		return fmt.Errorf("terminaltest: unknown fault %d", fault)
	}
}

var _ terminal.Exchanger = (*Wire)(nil)
