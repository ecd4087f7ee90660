// Package supervisor tells the supervisor of a daemon how it is doing, in the protocol of systemd: datagrams of NAME=VALUE lines
// to the socket that it names (sd_notify(3)).
//
// [New] reads what the supervisor said in the environment; without one every method does nothing. [Supervisor.Ready] and
// [Supervisor.Stopping] say where the daemon is in its life, [Supervisor.Watch] shows again and again that it lives.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// The variables of sd_notify(3) and sd_watchdog_enabled(3).
const (
	variableSocket   = "NOTIFY_SOCKET"
	variableInterval = "WATCHDOG_USEC"
	variablePID      = "WATCHDOG_PID"
)

// Supervisor is who started the process. The zero value is nobody: nothing is told, and nothing is an error. It is safe for
// concurrent use.
type Supervisor struct {
	socket   string        // path, or a name that begins with @; "" for nobody
	watchdog time.Duration // how long the process may be silent; 0 for ever
}

// New reads the variables of the supervisor. What is not of the protocol is an error: a service that its supervisor waits for in vain
// would be killed without a word.
func New(getenv func(string) string) (Supervisor, error) {
	s := Supervisor{socket: getenv(variableSocket)}
	if s.socket == "" {
		return Supervisor{}, nil
	}
	if !strings.HasPrefix(s.socket, "/") && !strings.HasPrefix(s.socket, "@") {
		return Supervisor{}, fmt.Errorf("supervisor: %s is neither a path nor a name that begins with @", variableSocket)
	}
	text := getenv(variableInterval)
	if text == "" {
		return s, nil
	}
	if pid := getenv(variablePID); pid != "" && pid != strconv.Itoa(os.Getpid()) { // meant for another process
		return s, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > int64(24*time.Hour/time.Microsecond) {
		return Supervisor{}, fmt.Errorf("supervisor: %s is no number of microseconds", variableInterval)
	}
	s.watchdog = time.Duration(n) * time.Microsecond
	return s, nil
}

// Ready says that the daemon serves.
func (s Supervisor) Ready() error { return s.tell("READY=1") }

// Stopping says that it ends its work and takes no more.
func (s Supervisor) Stopping() error { return s.tell("STOPPING=1") }

// Watch says twice in each interval of the watchdog that the daemon lives, as long as alive returns nil, until ctx ends. The time that
// alive has is half of the interval. It returns at once when nobody watches. What cannot be told goes to failed, and is tried again.
func (s Supervisor) Watch(ctx context.Context, alive func(context.Context) error, failed func(error)) {
	if s.watchdog == 0 {
		return
	}
	half := s.watchdog / 2
	tick := time.NewTicker(half)
	defer tick.Stop()
	for {
		if err := s.lives(ctx, half, alive); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lives tells of life if there is any. Only what the socket says is an error: without a word of life the supervisor acts.
func (s Supervisor) lives(ctx context.Context, patience time.Duration, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if alive(ctx) != nil {
		return nil
	}
	return s.tell("WATCHDOG=1")
}

func (s Supervisor) tell(line string) error {
	if s.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	_, err = c.Write([]byte(line + "\n"))
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	return nil
}
