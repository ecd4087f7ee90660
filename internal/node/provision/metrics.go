package provision

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// metrics are what the authority counts. Labels are words of ours and codes, never a terminal, a serial number or a key set.
type metrics struct {
	*daemon.Metrics
	asked   *prometheus.CounterVec
	refused *prometheus.CounterVec
}

func newMetrics() (*metrics, error) {
	common, err := daemon.NewMetrics()
	if err != nil {
		return nil, err
	}
	m := &metrics{
		Metrics: common,
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_enrolments_total",
			Help: "What terminals asked for: enrol, renew, agreement or deliver, and ok or the code of the refusal.",
		}, []string{"action", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_connections_refused_total",
			Help: "Connections closed unanswered because their source had as many open as connections-per-source allows, by listener.",
		}, []string{"listener"}),
	}
	return m, errors.Join(m.Registry.Register(m.asked), m.Registry.Register(m.refused))
}

// crowd tells of the connections that a listener refuses.
func (m *metrics) crowd(listener string, log *slog.Logger) *crowded {
	return &crowded{listener: listener, count: m.refused.WithLabelValues(listener), log: log, clock: time.Now}
}

// count counts what became of what a terminal asked for.
func (m *metrics) count(action, result string) { m.asked.WithLabelValues(action, result).Inc() }

const (
	// censusEvery is how old the counts of the registry may be: each takes a look at every row.
	censusEvery   = 30 * time.Second
	censusTimeout = 20 * time.Second
)

// census tells how much of what is in the registry. It asks the engine at most so often, whoever asks for metrics. Where the
// store cannot be read it tells nothing, and not what was.
type census struct {
	engine *provision.Engine
	log    *slog.Logger

	mu   sync.Mutex
	last *provision.Census
	at   time.Time
}

var (
	terminalsDesc = prometheus.NewDesc("latchkey_terminals", "Terminals by status.", []string{"status"}, nil)
	certsDesc     = prometheus.NewDesc("latchkey_certificates",
		"Certificates of terminals by role and state: current, previous, replaced, revoked or expired.", []string{"role", "state"}, nil)
	endingDesc = prometheus.NewDesc("latchkey_certificates_ending",
		"Current certificates of terminals that end within so long, those within a shorter time included.", []string{"within"}, nil)
	tasksDesc = prometheus.NewDesc("latchkey_outbox_tasks", "What other services have to be told yet.", []string{"kind"}, nil)
	waitsDesc = prometheus.NewDesc("latchkey_outbox_oldest_seconds", "How long the oldest of what is due to be told has been waiting.", nil, nil)
	lagDesc   = prometheus.NewDesc("latchkey_store_behind_seconds", "Since what other instances have written was seen; 0 where there are none.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *census) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{terminalsDesc, certsDesc, endingDesc, tasksDesc, waitsDesc, lagDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *census) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(lagDesc, c.engine.Behind().Seconds())
	all := c.counts()
	if all == nil {
		return
	}
	for s := keyset.StatusPending; s <= keyset.StatusRetired; s++ {
		gauge(terminalsDesc, float64(all.Terminals[s]), s.String())
	}
	for _, role := range []identity.Role{identity.Terminal, identity.Agreement} {
		for _, state := range []provision.CertificateState{
			provision.CertificateCurrent, provision.CertificatePrevious, provision.CertificateReplaced, provision.CertificateRevoked, provision.CertificateExpired,
		} {
			gauge(certsDesc, float64(all.Certificates[role][state]), string(role), string(state))
		}
	}
	for i, horizon := range provision.Horizons() {
		gauge(endingDesc, float64(all.Ending[i]), horizon.String())
	}
	for _, kind := range provision.TaskKinds() {
		gauge(tasksDesc, float64(all.Tasks[kind]), kind.String())
	}
	gauge(tasksDesc, float64(all.Tasks[0]), "unreadable")
	gauge(waitsDesc, all.Oldest.Seconds())
}

// counts returns what the registry has, nil when it cannot be read.
func (c *census) counts() *provision.Census {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && time.Since(c.at) < censusEvery {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), censusTimeout)
	defer cancel()
	all, err := c.engine.Census(ctx)
	if err != nil {
		c.log.Warn("the registry is not counted", slog.String("error", err.Error()))
		c.last = nil
		return nil
	}
	c.last, c.at = all, time.Now()
	return all
}
