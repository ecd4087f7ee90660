package decrypt

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// metrics are what the service counts. Labels are codes and states, never a terminal, a KSN or anything of a card.
type metrics struct {
	transactions *prometheus.CounterVec
	answers      *prometheus.CounterVec
	conflicts    prometheus.Counter
	reloads      *prometheus.CounterVec
	checkpoints  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_transactions_total",
			Help: "Messages by what became of them: FRESH, RESEND, what the service decided by itself, or the code of the refusal.",
		}, []string{"result"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_answers_total", Help: "Answers of acquirer hosts: FIRST or AGAIN.",
		}, []string{"recorded"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_ksn_conflicts_total", Help: "Messages refused because their KSN had been used with another content.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_catalog_reloads_total", Help: "Readings of changed key sets and terminals: ok or failed.",
		}, []string{"result"}),
		checkpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_audit_checkpoints_total", Help: "Signed checkpoints of the audit log: ok or failed.",
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.transactions, m.answers, m.conflicts, m.reloads, m.checkpoints} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) transaction(res *decrypt.TransactionResult) {
	if res.Decided != 0 {
		m.transactions.WithLabelValues(res.Decided.String()).Inc()
		return
	}
	m.transactions.WithLabelValues(res.Status.String()).Inc()
}

func (m *metrics) refusal(code decrypt.Code) {
	m.transactions.WithLabelValues(string(code)).Inc()
	if code == decrypt.CodeKSNReplayed {
		m.conflicts.Inc()
	}
}

// commits registers what the store counts. The size of a batch is calls divided by commits.
func commits(reg prometheus.Registerer, stats func() (commits, calls uint64)) error {
	for _, c := range []struct {
		name, help string
		value      func() float64
	}{
		{"latchkey_commits_total", "Durable commits of the store.", func() float64 { n, _ := stats(); return float64(n) }},
		{"latchkey_commit_calls_total", "Calls that the durable commits carried: divided by commits, the size of a batch.", func() float64 { _, n := stats(); return float64(n) }},
	} {
		if err := reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help}, c.value)); err != nil {
			return err
		}
	}
	return nil
}
