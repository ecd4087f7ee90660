package daemon

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

// Metrics are what every daemon counts.
type Metrics struct {
	Registry    *prometheus.Registry   // what operators are told; more may be registered
	Traffic     serve.Observer         // of requests
	Batch       func(calls int)        // of commits of the store
	Reloads     *prometheus.CounterVec // by result, ok or failed
	Checkpoints *prometheus.CounterVec // by result, ok or failed
}

// NewMetrics returns metrics at zero, with those of the process and of its language.
func NewMetrics() (*Metrics, error) {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		Reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_catalog_reloads_total", Help: "Readings of changed key sets and what else is read again: ok or failed.",
		}, []string{"result"}),
		Checkpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_audit_checkpoints_total", Help: "Signed checkpoints of the audit log: ok or failed.",
		}, []string{"result"}),
	}
	batch := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "latchkey_commit_batch_size", Help: "Calls that shared one durable commit of the store.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
	})
	m.Batch = func(calls int) { batch.Observe(float64(calls)) }
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), batch, m.Reloads, m.Checkpoints,
	} {
		if err := m.Registry.Register(c); err != nil {
			return nil, err
		}
	}
	var err error
	m.Traffic, err = serve.Traffic(m.Registry)
	return m, err
}
