package admin

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestCausesAreForTheLog has the cause of a refusal in the log and not in the answer.
func TestCausesAreForTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := serve.Wrap(serve.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return problem(r.Context(), &provision.Refusal{Code: provision.CodeStoreUnavailable, Cause: errors.New("the disk is gone")})
	}), slog.New(slog.NewJSONHandler(&log, nil)), nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != 503 || !strings.Contains(log.String(), "the disk is gone") || strings.Contains(w.Body.String(), "disk is gone") {
		t.Errorf("answer %d %s, log %s", w.Code, w.Body, log.String())
	}
}
