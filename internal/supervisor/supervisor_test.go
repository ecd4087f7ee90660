package supervisor_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/supervisor"
)

// listen is the supervisor's end of the socket.
func listen(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return path, func() string {
		t.Helper()
		b := make([]byte, 256)
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("nothing was told: %v", err)
		}
		return string(b[:n])
	}
}

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestLife(t *testing.T) {
	t.Parallel()
	path, next := listen(t)
	s, err := supervisor.New(env(map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "READY=1\n" {
		t.Errorf("ready: %q", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Watch(ctx, func(context.Context) error {
			if asked.Add(1)%2 == 0 { // every other time it is not alive, and nothing may be told
				return errors.New("hangs")
			}
			return nil
		}, func(err error) { t.Error(err) })
	}()
	for range 3 {
		if got := next(); got != "WATCHDOG=1\n" {
			t.Errorf("watched: %q", got)
		}
	}
	stop()
	<-ended
	if n := asked.Load(); n < 5 {
		t.Errorf("told three times after %d questions: it was told although nothing lived", n)
	}
}

// TestNobody is a process without a supervisor, and one whose supervisor watches another process.
func TestNobody(t *testing.T) {
	t.Parallel()
	s, err := supervisor.New(env(nil))
	if err = errors.Join(err, s.Ready(), s.Stopping()); err != nil {
		t.Error(err)
	}
	s.Watch(t.Context(), nil, nil)
	path, _ := listen(t)
	s, err = supervisor.New(env(map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}))
	if err != nil {
		t.Error(err)
	}
	s.Watch(t.Context(), nil, nil)
}

func TestWhatIsNotOfTheProtocol(t *testing.T) {
	t.Parallel()
	for name, pairs := range map[string]map[string]string{
		"a relative path": {"NOTIFY_SOCKET": "notify"},
		"no number":       {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1s"},
		"nothing":         {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "0"},
		"past":            {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "-1"},
		"for ever":        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "9223372036854775807"},
	} {
		if _, err := supervisor.New(env(pairs)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	s, err := supervisor.New(env(map[string]string{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone"), "WATCHDOG_USEC": "2000"}))
	if err != nil || s.Ready() == nil {
		t.Errorf("a socket that is gone: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	failures := 0
	s.Watch(ctx, func(context.Context) error { return nil }, func(error) {
		if failures++; failures == 3 { // it goes on trying
			stop()
		}
	})
}
