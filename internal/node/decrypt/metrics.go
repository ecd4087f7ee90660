package decrypt

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// metrics are what the service counts. Labels are codes and states, never a terminal, a KSN or anything of a card.
type metrics struct {
	transactions *prometheus.CounterVec
	answers      *prometheus.CounterVec
	conflicts    prometheus.Counter
	batch        prometheus.Histogram
	reloads      *prometheus.CounterVec
	checkpoints  *prometheus.CounterVec
	keySets      *prometheus.GaugeVec
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
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "latchkey_commit_batch_size", Help: "Calls that shared one durable commit of the store.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_catalog_reloads_total", Help: "Readings of changed key sets and terminals: ok or failed.",
		}, []string{"result"}),
		checkpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_audit_checkpoints_total", Help: "Signed checkpoints of the audit log: ok or failed.",
		}, []string{"result"}),
		keySets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_key_set_info", Help: "1 for each key set: its state, and where its keys and PINs are exposed.",
		}, []string{"key_set", "state", "key_mode", "pin_exposure", "environment"}),
	}
	for _, c := range []prometheus.Collector{m.transactions, m.answers, m.conflicts, m.batch, m.reloads, m.checkpoints, m.keySets} {
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

// describe says anew what key sets there are, with the labels of their base keys.
func (m *metrics) describe(sets []*keyset.KeySet, keys []engine.KeyInfo) {
	labels := make(map[keyset.KeyRef]engine.Labels, len(keys))
	for _, k := range keys {
		labels[k.Ref] = k.Labels
	}
	m.keySets.Reset()
	for _, set := range sets {
		l := labels[set.BaseKey]
		m.keySets.WithLabelValues(string(set.ID), set.State.String(), l.KeyMode.String(), l.PINExposure.String(), set.Environment.String()).Set(1)
	}
}
