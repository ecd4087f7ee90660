package terminal

import (
	"errors"
	"time"
)

// EndpointCounters say how one endpoint of a Link has done since the link was made. Each attempt that has ended is a success, a
// failure of one kind, or abandoned.
type EndpointCounters struct {
	URL         string
	Attempts    uint64        // messages that were to be delivered here, and connections of Dial
	Successes   uint64        // answers that were taken, and connections that were made
	Unreachable uint64        // no connection: name, TCP or TLS
	Silent      uint64        // a connection, and no answer in time
	Broken      uint64        // a connection that another error of the network ended
	Rejected    uint64        // answers that were none, or not genuine
	Refused     uint64        // the host said no: an HTTP status other than 200, or the certificate
	Abandoned   uint64        // the caller gave up, or the network changed: that says nothing about the endpoint
	LastError   error         // of the last failure; nil before
	Latency     time.Duration // of the last success, from the attempt to the whole answer; a new connection is in it
}

// Failures returns how many attempts failed, for whatever reason.
func (c EndpointCounters) Failures() uint64 {
	return c.Unreachable + c.Silent + c.Broken + c.Rejected + c.Refused
}

// Switch says that a link has gone from one endpoint to another.
type Switch struct {
	From, To string // URLs
	Err      error  // of the last failure at From since it last answered; nil when that is well: the link is back at a better one
}

// attempt counts an attempt that has ended. A nil error is a success; any other that the caller brought about is none of the
// endpoint's.
func (c *EndpointCounters) attempt(connected, gaveUp bool, err error, took time.Duration) {
	c.Attempts++
	_, refused := errors.AsType[*HostError](err)
	switch {
	case err == nil:
		c.Successes++
		c.Latency = took
		return
	case refused || errors.Is(err, ErrCertificateRefused):
		c.Refused++
	case errors.Is(err, ErrAck):
		c.Rejected++
	case gaveUp || errors.Is(err, errNetworkChanged):
		c.Abandoned++
		return
	case !connected:
		c.Unreachable++
	case errors.Is(err, errSilent):
		c.Silent++
	default:
		c.Broken++
	}
	c.LastError = err
}

// Endpoints returns how each endpoint has done, in the order of preference.
func (l *Link) Endpoints() []EndpointCounters {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]EndpointCounters, 0, len(l.targets))
	for _, t := range l.targets {
		out = append(out, *t.record)
	}
	return out
}

// keepRecords has new targets go on with what was counted of the same endpoints. The link is locked.
func (l *Link) keepRecords(targets []*target) {
	stays := false
	for _, t := range targets {
		for _, old := range l.targets {
			if old.record.URL == t.record.URL {
				t.record = old.record
			}
		}
		stays = stays || t.record.URL == l.serving
	}
	if !stays {
		l.serving = targets[0].record.URL
	}
}

// serve notes which endpoint has answered, and tells when it is another than before.
func (l *Link) serve(t *target) {
	l.mu.Lock()
	s := Switch{From: l.serving, To: t.record.URL}
	for _, from := range l.targets {
		if from.record.URL == s.From && !from.rests.IsZero() {
			s.Err = from.record.LastError
		}
	}
	l.serving = s.To
	switching := l.o.Switching
	l.mu.Unlock()
	if s.From != s.To {
		switching(s)
	}
}
