package admin

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/openapitest"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/feed"
)

// TestOpenAPIHasEveryRoute compares docs/openapi-admin.yaml with what is registered, in both directions.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	var want []string
	for _, e := range endpoints {
		want = append(want, e.method+" "+e.pattern)
	}
	for _, path := range serve.AdminPaths {
		want = append(want, http.MethodGet+" "+path)
	}
	openapitest.Routes(t, openapitest.Load(t, "../../../docs/openapi-admin.yaml"), want)
}

// TestOpenAPIHasEveryMember compares its schemas with the types of the wire.
func TestOpenAPIHasEveryMember(t *testing.T) {
	t.Parallel()
	doc := openapitest.Load(t, "../../../docs/openapi-admin.yaml")
	for _, v := range []any{
		Operation{}, SlotAssignment{}, Label{}, Registration{}, InjectedKey{}, Part{}, Enlisted{}, Outcome{}, Terminal{}, DrainGrant{}, Slot{}, Key{},
		Campaign{}, HitSlot{}, Approval{}, Certificate{}, feed.Observations{}, feed.Confirmation{}, feed.Sighting{}, feed.HighMark{}, feed.Quarantine{},
		feed.ObservationsAnswer{},
	} {
		openapitest.Members(t, doc, reflect.TypeOf(v).Name(), v, true)
	}
	for name, v := range map[string]any{
		"TerminalList": terminalList{}, "ApprovalList": approvalList{}, "EnlistedList": enlistedList{}, "CertificateList": certificateList{},
	} {
		openapitest.Members(t, doc, name, v, true)
	}
}
