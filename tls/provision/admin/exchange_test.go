package admin_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/openapitest"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// TestExchangesAreAsDescribed sends the example of every endpoint of docs/openapi-admin.yaml, by a caller that the document names and by one
// that it does not, and holds what is answered to it.
func TestExchangesAreAsDescribed(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "../../../docs/openapi-admin.yaml")
	h := newHouse(t)
	status := httptest.NewServer(serve.Admin(serve.NewReadiness(), prometheus.NewRegistry()))
	t.Cleanup(status.Close)
	made := 0
	for template, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			made++
			if slices.Contains(op.Tags, "status") {
				answered(t, http.DefaultClient, status.URL, method, template, op, 200)
				continue
			}
			permitted := 0
			for role, client := range h.clients {
				want := 403
				if slices.Contains(strings.Fields(strings.TrimSuffix(op.Description, ".")), role.String()) {
					want = 200
					permitted++
				}
				answered(t, client, h.url, method, template, op, want)
			}
			if permitted == 0 {
				t.Errorf("%s %s is for nobody", method, template)
			}
		}
	}
	if made < 14 {
		t.Errorf("%d endpoints", made)
	}
	if !slices.Contains(h.fake.calls, "observe") || !slices.Contains(h.fake.calls, "enlist 1 true") || h.fake.denied == nil {
		t.Errorf("the registry was asked for %v", h.fake.calls)
	}
}

// answered sends the example of an endpoint and holds the answer to the document.
func answered(t *testing.T, client *http.Client, root, method, template string, op *openapi3.Operation, want int) {
	t.Helper()
	path, query := template, []string{}
	for _, p := range op.Parameters {
		text := strings.Trim(string(must2(json.Marshal(p.Value.Example))), `"`)
		if p.Value.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", text)
		} else {
			query = append(query, p.Value.Name+"="+strings.ReplaceAll(text, "=", "%3D"))
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	var body []byte
	if op.RequestBody != nil {
		body = must2(json.Marshal(op.RequestBody.Value.Content["application/json"].Example))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, root+path, bytes.NewReader(body))
	must(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	must(t, err)
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	described := op.Responses.Value("200")
	if want != 200 {
		described = op.Responses.Default()
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	content := described.Value.Content
	if resp.StatusCode != want || content[media] == nil {
		t.Errorf("%s %s: status %d %s, want %d: %s", method, path, resp.StatusCode, media, want, answer)
		return
	}
	if media != "application/json" {
		return
	}
	if err := openapitest.Conforms(content, answer); err != nil {
		t.Errorf("%s %s: %v\n%s", method, path, err, answer)
	}
}

func must2(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
