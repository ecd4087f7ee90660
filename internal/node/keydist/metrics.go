package keydist

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// metrics are what the host counts. Labels are codes and states, never a terminal or a key id.
type metrics struct {
	*daemon.Metrics
	orders   *prometheus.CounterVec
	keySets  *prometheus.GaugeVec
	devices  prometheus.Gauge
	revision prometheus.Gauge
}

func newMetrics() (*metrics, error) {
	common, err := daemon.NewMetrics()
	if err != nil {
		return nil, err
	}
	m := &metrics{
		Metrics: common,
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "latchkey_key_orders_total",
			Help: "Orders of the registration authority: what was asked for, and what became of it or the code of the refusal.",
		}, []string{"action", "result"}),
		keySets: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "latchkey_key_set_info", Help: "1 for each key set: its state, how its keys are held and delivered, and where they are exposed then.",
		}, []string{"key_set", "state", "key_mode", "pin_exposure", "environment", "delivery", "delivery_exposure"}),
		devices: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_attested_devices", Help: "Devices on the list of those that may have attested keys.",
		}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "latchkey_attested_revision", Help: "Revision of the signed makers and devices that is in force; 0 for none.",
		}),
	}
	for _, c := range []prometheus.Collector{m.orders, m.keySets, m.devices, m.revision} {
		if err := m.Registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// order counts an order that ended.
func (m *metrics) order(action, result string) { m.orders.WithLabelValues(action, result).Inc() }

// trust says anew whose word is taken, nil for nobody's.
func (m *metrics) trust(makers *keydist.Makers) {
	if makers == nil {
		makers = new(keydist.Makers)
	}
	m.devices.Set(float64(makers.Devices.Len()))
	m.revision.Set(float64(makers.Revision))
}

// describe says anew what key sets there are, with the labels of their base keys and of what makes key blocks.
func (m *metrics) describe(sets []*keyset.KeySet, keys []engine.KeyInfo, delivered remote.Exposure) {
	labels := make(map[keyset.KeyRef]engine.Labels, len(keys))
	for _, k := range keys {
		labels[k.Ref] = k.Labels
	}
	m.keySets.Reset()
	for _, set := range sets {
		l, exposure := labels[set.BaseKey], delivered.String()
		if set.Delivery == keyset.DeliveryNone {
			exposure = "none"
		}
		m.keySets.WithLabelValues(string(set.ID), set.State.String(), l.KeyMode.String(), l.PINExposure.String(), set.Environment.String(),
			set.Delivery.String(), exposure).Set(1)
	}
}
