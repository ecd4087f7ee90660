package decrypt

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// TestThePlumbingsCodesAreListed keeps what internal/serve answers by itself inside the one list of codes.
func TestThePlumbingsCodesAreListed(t *testing.T) {
	t.Parallel()
	for _, p := range serve.Problems() {
		info, ok := decrypt.Code(p.Code).Info()
		if !ok || info.HTTPStatus != p.Status {
			t.Errorf("%s with status %d: listed %v, with status %d", p.Code, p.Status, ok, info.HTTPStatus)
		}
	}
}

// TestEveryCodeBecomesItsStatus goes through the list: status, hint, and a time to come back where one helps.
func TestEveryCodeBecomesItsStatus(t *testing.T) {
	t.Parallel()
	for _, info := range decrypt.Codes() {
		p := problem(&decrypt.Refusal{Code: info.Code, Detail: "slot 3"})
		if p.Status != info.HTTPStatus || p.Code != string(info.Code) || p.Hint != info.Hint || p.Message != info.Meaning+": slot 3" {
			t.Errorf("%s became %+v", info.Code, p)
		}
		if wait := p.RetryAfter > 0; wait != (info.HTTPStatus == 503 || info.HTTPStatus == 507) {
			t.Errorf("%s with status %d: come back %v", info.Code, info.HTTPStatus, p.RetryAfter)
		}
	}
	if p := problem(&decrypt.Refusal{Code: "NoSuchCode", Detail: "slot 3"}); p.Status != 500 || p.Code != serve.CodeInternal {
		t.Errorf("an unknown code became %+v", p)
	}
}
