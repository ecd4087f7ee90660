package serve

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Traffic registers the counters of HTTP traffic and returns what feeds them: latchkey_http_requests_total by route and
// status, and latchkey_http_request_seconds by route. Routes are patterns, never paths.
func Traffic(reg prometheus.Registerer) (Observer, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "latchkey_http_requests_total", Help: "Requests answered, by route and HTTP status.",
	}, []string{"route", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "latchkey_http_request_seconds", Help: "Time to answer a request, by route.",
		Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
	}, []string{"route"})
	for _, c := range []prometheus.Collector{requests, seconds} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return func(pattern string, status int, took time.Duration) {
		requests.WithLabelValues(pattern, strconv.Itoa(status)).Inc()
		seconds.WithLabelValues(pattern).Observe(took.Seconds())
	}, nil
}
