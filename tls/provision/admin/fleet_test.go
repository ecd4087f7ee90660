package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func registration(id string) admin.Registration {
	return admin.Registration{
		Terminal: id, Slots: []admin.SlotAssignment{{Slot: 1, KeySet: "DATA-1"}}, Endpoints: []string{"https://a.example"}, Group: "NORTH",
		Labels: []admin.Label{{Key: "city", Value: "Graz"}},
	}
}

// TestFleet asks for leave for a list, and sends a part of it.
func TestFleet(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	digest := strings.Repeat("0a", 32)
	h.fake.out = provision.Outcome{Approval: &provision.Approval{
		ID: "GRANTED", Operation: provision.Operation{Action: provision.ActionFleet}, Approver: identity.Identity{Tenant: "ACME", Role: identity.Operator, Name: "OP-2"},
	}}
	out, err := h.client().Do(t.Context(), admin.Operation{Action: "register-fleet", Total: 2, Parts: []string{digest}, Lifetime: 900})
	must(t, err)
	if op := h.fake.op; out.Granted != "GRANTED" || out.Approval != nil || op.Total != 2 || len(op.Parts) != 1 || op.Parts[0].String() != digest {
		t.Errorf("%+v becomes %+v", op, out)
	}
	seed := strings.Repeat("0b", 32)
	part := admin.Part{Approval: "GRANTED", Seed: seed, All: []admin.Registration{registration("T-1"), registration("T-2")}}
	all, err := h.client().Enlist(t.Context(), part)
	must(t, err)
	if all[0].Ticket != "CODE-PIN" || all[0].Expires != 1_800_000_900 || all[1].Code != "TerminalExists" || !strings.HasSuffix(all[1].Message, ": it is active") {
		t.Errorf("enlisted %+v", all)
	}
	p := h.fake.part
	if p.Approval != "GRANTED" || p.Dry || p.Seed.Expose()[0] != 0x0b || p.All[1].Group != "NORTH" || p.All[1].Labels[0].Value != "Graz" || p.All[1].Slots[0].KeySet != "DATA-1" {
		t.Errorf("sent %+v", p)
	}
	all, err = h.client().Enlist(t.Context(), admin.Part{Dry: true, All: part.All})
	must(t, err)
	if len(all) != 2 || !h.fake.part.Dry {
		t.Errorf("dry: %+v", all)
	}
	_, err = h.client().Select(t.Context(), admin.Selection{Group: "NORTH", Labels: []string{"city=Graz", "model=P 2"}, KeySet: "DATA-1"})
	must(t, err)
	if f := h.fake.filter; f.Group != "NORTH" || len(f.Labels) != 2 || f.Labels[1].Value != "P 2" || f.KeySet != "DATA-1" {
		t.Errorf("filter %+v", f)
	}
}

// TestPartMalformed has parts that are refused before the registry hears of them.
func TestPartMalformed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := `{"Terminal":"T-1","Slots":[{"Slot":1,"KeySet":"DATA-1"}],"Endpoints":["https://a.example"]}`
	seed := strings.Repeat("0b", 32)
	for name, body := range map[string]string{
		"nothing": `{}`, "nobody": `{"Dry":true,"Terminals":[]}`, "no seed": `{"Approval":"X","Terminals":[` + one + `]}`,
		"a short seed": `{"Approval":"X","Seed":"0b","Terminals":[` + one + `]}`, "dry with a seed": `{"Dry":true,"Seed":"` + seed + `","Terminals":[` + one + `]}`,
		"dry with an approval": `{"Dry":true,"Approval":"X","Terminals":[` + one + `]}`, "a bad id": `{"Dry":true,"Terminals":[{"Terminal":"t-1"}]}`,
		"a bad set": `{"Dry":true,"Terminals":[{"Terminal":"T-1","Slots":[{"Slot":1,"KeySet":"a b"}]}]}`,
		"too many":  `{"Dry":true,"Terminals":[` + strings.Repeat(one+",", provision.MaxPart) + one + `]}`,
		"too long":  `{"Dry":true,"Approval":"` + strings.Repeat("x", 1<<20) + `"}`, "null": `{"Dry":true,"Terminals":null}`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+admin.PathFleet, strings.NewReader(body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := h.clients[identity.Operator].Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 && resp.StatusCode != 413 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	if len(h.fake.calls) != 0 {
		t.Errorf("the registry was called: %v", h.fake.calls)
	}
}

// TestCampaign reads how far a key set is, page by page and in numbers.
func TestCampaign(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for page, calls := range map[int]int{0: 1, 1: 2} {
		h.fake.page, h.fake.calls = page, nil
		c, err := h.client().Campaign(t.Context(), "DATA-1")
		must(t, err)
		if len(c.Hit) != 3 || c.Hit[1].Slot != 2 || c.Hit[2].Progress != "rekeyed" || c.Hit[2].Status != "blocked" || c.More || len(h.fake.calls) != calls {
			t.Errorf("%d calls: %+v", len(h.fake.calls), c)
		}
		if c.KeySet != "DATA-1" || !c.Stopped || c.Told || c.Successor != "DATA-2" || c.Since != 1_800_000_000 || len(c.Names) != 2 || c.Slots["ordered"] != 2 || len(c.Slots) != 5 {
			t.Errorf("%+v", c)
		}
	}
	c, err := h.client().CampaignCounts(t.Context(), "DATA-1")
	must(t, err)
	if c.Hit != nil || c.Slots["rekeyed"] != 1 || h.fake.calls[len(h.fake.calls)-1] != `campaign DATA-1 "" 1` {
		t.Errorf("%+v by %v", c, h.fake.calls)
	}
	h.fake.out = provision.Outcome{}
	_, err = h.client().Do(t.Context(), admin.Operation{Action: "compromise-set", KeySet: "DATA-1", Successor: "DATA-2", Reason: "lost"})
	must(t, err)
	if op := h.fake.op; op.Action != provision.ActionCompromiseSet || op.KeySet != "DATA-1" || op.Successor != "DATA-2" || op.Terminal != "" {
		t.Errorf("%+v", op)
	}
}
