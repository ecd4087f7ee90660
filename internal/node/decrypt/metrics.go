package decrypt

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// metrics are what the service counts. Labels are codes and states, never a terminal, a KSN or anything of a card.
type metrics struct {
	*daemon.Metrics
	transactions *prometheus.CounterVec
	answers      *prometheus.CounterVec
	calls        *prometheus.CounterVec
	conflicts    prometheus.Counter
	evidence     prometheus.Counter
	keySets      *prometheus.GaugeVec
	observations *prometheus.CounterVec
	floors       prometheus.Counter
}

func newMetrics() (*metrics, error) {
	common, err := daemon.NewMetrics()
	if err != nil {
		return nil, err
	}
	m := &metrics{
		Metrics: common,
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_transactions_total",
			Help: "Messages by what became of them: FRESH, RESEND, what the service decided by itself, or the code of the refusal.",
		}, []string{"result"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_answers_total", Help: "Answers of acquirer hosts: FIRST or AGAIN.",
		}, []string{"recorded"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_calls_total", Help: "Calls in the words of AWS, by action and by what became of them: FRESH, RESEND, NONE without a KSN, or the code of the refusal.",
		}, []string{"action", "result"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_ksn_conflicts_total", Help: "Messages refused because their KSN had been used with another content.",
		}),
		evidence: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_clone_evidence_total", Help: "Messages refused as evidence of a clone or a roll-back: a second content of one KSN, under MACs that verify.",
		}),
		keySets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_key_set_info", Help: "1 for each key set: its state, and where its keys and PINs are exposed.",
		}, []string{"key_set", "state", "key_mode", "pin_exposure", "environment"}),
		observations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_registry_reports_total", Help: "Reports of used keys and evidence to the registration authority: ok or failed.",
		}, []string{"result"}),
		floors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "latchkey_imported_floors_total", Help: "Floors of imported keys that the store of claims was given.",
		}),
	}
	for _, c := range []prometheus.Collector{
		m.transactions, m.answers, m.calls, m.conflicts, m.evidence, m.keySets, m.observations, m.floors,
	} {
		if err := m.Registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// load adds how much is worked on.
func (m *metrics) load(s *decrypt.Service) error {
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "latchkey_requests_working", Help: "Requests that are worked on."}, func() float64 {
			working, _ := s.Load()
			return float64(working)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "latchkey_requests_waiting", Help: "Requests that wait to be worked on."}, func() float64 {
			_, waiting := s.Load()
			return float64(waiting)
		}),
	} {
		if err := m.Registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// follow adds what there is to say about the registry feed, for a node that follows one.
func follow(reg prometheus.Registerer, r *registry) error {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		gauge("latchkey_registry_epoch", "Epoch of the latest record of the registry feed.", func() float64 {
			epoch, _ := r.follower.Position()
			return float64(epoch)
		}),
		gauge("latchkey_registry_sequence", "Sequence of the latest record of the registry feed in its epoch.", func() float64 {
			_, sequence := r.follower.Position()
			return float64(sequence)
		}),
		gauge("latchkey_registry_age_seconds", "Time since the last sign of life of the registration authority; +Inf without one.", func() float64 {
			if heard := r.follower.Heard(); !heard.IsZero() {
				return time.Since(heard).Seconds()
			}
			return math.Inf(1)
		}),
		gauge("latchkey_registry_stale", "1 while nothing has been heard of the registration authority for 30 seconds.", func() float64 {
			if stale(r.follower.Heard(), time.Now()) {
				return 1
			}
			return 0
		}),
		gauge("latchkey_registry_terminals", "Terminals that the registry feed has told of.", func() float64 {
			return float64(len(r.follower.Terminals()))
		}),
		gauge("latchkey_registry_reports_waiting", "Keys whose use the registration authority has not been told of yet.", func() float64 {
			return float64(r.marks.waiting())
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "latchkey_registry_failures_total", Help: "Answers of the registry feed that could not be had or were not believed.",
		}, func() float64 { return float64(r.follower.Failures()) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
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

// call counts one call in the words of AWS.
func (m *metrics) call(action, result string) {
	m.calls.WithLabelValues(action, result).Inc()
	if result == string(decrypt.CodeKSNReplayed) {
		m.conflicts.Inc()
	}
}

// watched counts the evidence among what a store refuses.
type watched struct {
	decrypt.Store
	evidence prometheus.Counter
}

// Claim implements decrypt.Store.
func (w watched) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	out, err := w.Store.Claim(ctx, set)
	if out.Evidence != (decrypt.CounterKey{}) {
		w.evidence.Inc()
	}
	return out, err
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
