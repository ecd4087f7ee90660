package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds the checks of readiness.
const readyTimeout = 3 * time.Second

// Check is one thing that must work for the daemon to be ready.
type Check struct {
	Name string // public, as in "store"
	Run  func(context.Context) error
}

// Readiness answers whether a daemon should get work. It is safe for concurrent use.
type Readiness struct {
	checks   []Check
	draining atomic.Bool
}

// NewReadiness returns the readiness of these checks, in this order.
func NewReadiness(checks ...Check) *Readiness { return &Readiness{checks: checks} }

// Drain makes the daemon not ready, for good: it is about to end.
func (r *Readiness) Drain() { r.draining.Store(true) }

// Ready runs the checks and returns the result of each by its name: "ok" or "failed", and whether all are well. Why a check
// failed is for the log, not for the network.
func (r *Readiness) Ready(ctx context.Context) (map[string]string, bool) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ready := !r.draining.Load()
	out := make(map[string]string, len(r.checks)+1)
	if !ready {
		out["draining"] = "yes"
	}
	for _, c := range r.checks {
		out[c.Name] = "ok"
		if err := c.Run(ctx); err != nil {
			out[c.Name] = "failed"
			ready = false
		}
	}
	return out, ready
}

// The endpoints of the operators' listener, each for GET.
const (
	PathLive    = "/livez"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
)

// AdminPaths are all of them.
var AdminPaths = []string{PathLive, PathReady, PathMetrics}

// Admin returns the endpoints of the operators' listener. They hold nothing secret; the listener still belongs on loopback or a
// network of the operators.
func Admin(ready *Readiness, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	answers := map[string]http.Handler{
		PathLive: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			WriteJSON(w, http.StatusOK, []byte(`{"live":"ok"}`))
		}),
		PathReady:   readyz(ready),
		PathMetrics: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}),
	}
	for _, path := range AdminPaths {
		mux.Handle("GET "+path, answers[path])
	}
	mux.Handle("/", Handler(NotFound))
	return mux
}

func readyz(ready *Readiness) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checks, ok := ready.Ready(r.Context())
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		body, err := json.Marshal(checks)
		if err != nil {
			internalError().write(w)
			return
		}
		WriteJSON(w, status, body)
	})
}
