package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

var secretText = secret.From([]byte("correct horse battery staple"))

// counted is an audit log whose checkpoints have numbers.
type counted struct {
	signed int
	fault  error
	left   time.Duration // that the last one had
}

func (c *counted) Checkpoint(ctx context.Context, _ *audit.Signer) ([]byte, error) {
	c.left = time.Hour
	if end, ok := ctx.Deadline(); ok {
		c.left = time.Until(end)
	}
	if err := errors.Join(ctx.Err(), c.fault); err != nil {
		return nil, err
	}
	c.signed++
	return fmt.Appendf(nil, "checkpoint %d", c.signed), nil
}

func counter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x", Help: "x"}, []string{"result"})
}

// results returns what a counter stands at, by result.
func results(t *testing.T, c *prometheus.CounterVec) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	return out
}

// TestCheckpoints signs as often as said and a last time at the end, for which there is time although ctx has ended.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checkpoint")
	synctest.Test(t, func(t *testing.T) {
		log := new(counted)
		c := &Checkpoints{Log: log, File: file, Every: 10 * time.Second, Logger: slog.New(slog.DiscardHandler), Count: counter()}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(25 * time.Second) // of a clock that does not wait
		synctest.Wait()
		if text := read(t, file); text != "checkpoint 2" {
			t.Errorf("after two and a half intervals: %q", text)
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if text := read(t, file); text != "checkpoint 3" || log.left != lastCheckpoint {
			t.Errorf("at the end: %q, %v left", text, log.left)
		}
		if got := results(t, c.Count); got["ok"] != 3 || len(got) != 1 {
			t.Errorf("counted %v", got)
		}
	})
}

// TestACheckpointThatFails leaves the one before in its place, and the next one comes.
func TestACheckpointThatFails(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	log := new(counted)
	c := &Checkpoints{
		Log: log, File: filepath.Join(t.TempDir(), "checkpoint"), Logger: slog.New(slog.NewTextHandler(&text, nil)), Count: counter(),
	}
	for i, fault := range []error{nil, errors.New("the disk is gone"), nil} {
		log.fault = fault
		if err := c.Sign(t.Context()); !errors.Is(err, fault) {
			t.Errorf("number %d: %v", i, err)
		}
		if want := []string{"checkpoint 1", "checkpoint 1", "checkpoint 2"}[i]; read(t, c.File) != want {
			t.Errorf("after number %d: %q, want %q", i, read(t, c.File), want)
		}
	}
	if got := results(t, c.Count); got["ok"] != 2 || got["failed"] != 1 {
		t.Errorf("counted %v", got)
	}
	if !strings.Contains(text.String(), "the disk is gone") {
		t.Errorf("log %q", text.String())
	}
	c.File, c.Count = filepath.Join(t.TempDir(), "none", "checkpoint"), nil
	if err := c.Sign(t.Context()); err == nil {
		t.Error("signed into a folder that is not there")
	}
}

func TestLastCheckpoint(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checkpoint")
	if kept, err := LastCheckpoint(file); kept != nil || err != nil {
		t.Errorf("nothing there: %q, %v", kept, err)
	}
	text, _, err := audit.GenerateKey("latchkey/SHOP/keyd")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.NewSigner(text)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(audit.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		good bool
	}{"a checkpoint": {signed, true}, "nothing": {nil, false}, "a torn one": {signed[:len(signed)/2], false}, "something else": {[]byte("key\n"), false}} {
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		kept, err := LastCheckpoint(file)
		if c.good && (err != nil || !bytes.Equal(kept, signed)) {
			t.Errorf("%s: %q, %v", name, kept, err)
		}
		if !c.good && (kept != nil || err == nil || !strings.HasPrefix(err.Error(), "checkpoint-file: ")) {
			t.Errorf("%s: %q, %v", name, kept, err)
		}
	}
	if kept, err := LastCheckpoint(filepath.Join(file, "below")); kept != nil || err == nil || !strings.HasPrefix(err.Error(), "checkpoint-file: ") {
		t.Errorf("nobody can tell: %q, %v", kept, err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
