package keydist

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// metrics are what the host counts. Labels are codes and states, never a terminal or a key id.
type metrics struct {
	orders      *prometheus.CounterVec
	batch       prometheus.Histogram
	reloads     *prometheus.CounterVec
	checkpoints *prometheus.CounterVec
	keySets     *prometheus.GaugeVec
	devices     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_key_orders_total",
			Help: "Orders of the registration authority: what was asked for, and what became of it or the code of the refusal.",
		}, []string{"action", "result"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "latchkey_commit_batch_size", Help: "Calls that shared one durable commit of the store.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_catalog_reloads_total", Help: "Readings of changed key sets, keys and devices: ok or failed.",
		}, []string{"result"}),
		checkpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_audit_checkpoints_total", Help: "Signed checkpoints of the audit log: ok or failed.",
		}, []string{"result"}),
		keySets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_key_set_info", Help: "1 for each key set: its state, how its keys are held and delivered, and where they are exposed then.",
		}, []string{"key_set", "state", "key_mode", "pin_exposure", "environment", "delivery", "delivery_exposure"}),
		devices: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_attested_devices", Help: "Devices on the list of those that may have attested keys.",
		}),
	}
	for _, c := range []prometheus.Collector{m.orders, m.batch, m.reloads, m.checkpoints, m.keySets, m.devices} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// order counts an order that ended.
func (m *metrics) order(action, result string) { m.orders.WithLabelValues(action, result).Inc() }

// describe says anew what key sets there are, with the labels of their base keys.
func (m *metrics) describe(sets []*keyset.KeySet, keys []engine.KeyInfo) {
	labels := make(map[keyset.KeyRef]engine.Labels, len(keys))
	for _, k := range keys {
		labels[k.Ref] = k.Labels
	}
	m.keySets.Reset()
	for _, set := range sets {
		l, exposure := labels[set.BaseKey], keydist.ClearInHost
		if set.Delivery == keyset.DeliveryNone {
			exposure = "none"
		}
		m.keySets.WithLabelValues(string(set.ID), set.State.String(), l.KeyMode.String(), l.PINExposure.String(), set.Environment.String(),
			set.Delivery.String(), exposure).Set(1)
	}
}
