package provision

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

// TestCrowdedSaysSo has a listener refuse a thousand connections in ten minutes: each is counted, and the log says it once a minute, with
// how many there were and what to do.
func TestCrowdedSaysSo(t *testing.T) {
	t.Parallel()
	m := must[*metrics](t)(newMetrics())
	var out bytes.Buffer
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	c := m.crowd("terminals", slog.New(slog.NewTextHandler(&out, nil)))
	c.clock = func() time.Time { return now }
	for range 1000 {
		c.refused("192.0.2.7")
		now = now.Add(600 * time.Millisecond)
	}
	w := httptest.NewRecorder()
	serve.Admin(serve.NewReadiness(), m.Registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), `latchkey_connections_refused_total{listener="terminals"} 1000`) {
		t.Error("the metrics do not say that 1000 were refused")
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 10 {
		t.Fatalf("%d lines, want 10\n%s", len(lines), out.String())
	}
	for i, line := range lines {
		want := "listener=terminals source=192.0.2.7 refused=100"
		if i == 0 {
			want = "listener=terminals source=192.0.2.7 refused=1"
		}
		if !strings.HasSuffix(line, want) || !strings.Contains(line, "raise connections-per-source") {
			t.Errorf("line %d: %s\nwant it to end with %s", i, line, want)
		}
	}
}
