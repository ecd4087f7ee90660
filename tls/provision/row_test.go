package provision_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// rows returns one of each kind, with something in every field.
func rows(t testing.TB) (*provision.Terminal, *provision.OneTimeCode, *provision.Certificate, *provision.Approval, *provision.Task) {
	key, other := keyID(t, "1234567800000001"), keyID(t, "1234567800000002")
	id := strings.Repeat("0", 25) + "1"
	later := noon.Add(time.Hour)
	who := identity.Identity{Tenant: tenant, Role: identity.Operator, Name: "ANNA"}
	return &provision.Terminal{
			Tenant: tenant, ID: "T-1", Status: keyset.StatusBlocked, StatusReason: "why", StatusSince: noon, Confirmed: true, Generation: 7,
			Serial: "ab", PreviousSerial: "cd", PreviousUntil: later, NotBefore: noon, NotAfter: later, KeyHash: provision.KeyHash{1},
			AgreementSerial: "ef", AgreementNotAfter: later, AgreementHash: provision.KeyHash{2},
			Slots: []provision.Slot{{Number: 1, KeySet: "DATA", Wanted: true, WantedSince: noon, Left: "OLD", Keys: []provision.Key{
				{ID: key, KeySet: "DATA", State: keyset.SlotDraining, Delivered: noon, DrainUntil: later, FirstSeen: noon, High: 5},
				{ID: other, KeySet: "DATA", State: keyset.SlotActive, Delivered: noon},
			}}, {Number: 16, KeySet: "OTHER"}},
			Endpoints: []string{"https://a.example"}, IssuedDay: 3, Issued: 2, Registered: noon, Registrar: "ANNA",
			Group: "NORTH", Labels: []provision.Label{{Key: "city", Value: "Graz"}, {Key: "model", Value: "P 2"}},
			DrainGrants: []keyset.DrainGrant{{ID: id, Slot: 1, KeyID: key, First: 1, Last: 3, Count: 2, Until: later}},
		}, &provision.OneTimeCode{
			Terminal: "T-1", Check: [32]byte{3}, State: provision.StateSpent, Created: noon, Expires: later, Failures: 4,
			KeyHash: provision.KeyHash{1}, Reserved: noon, Spent: noon, Serial: "ab", Agreement: provision.KeyHash{2}, Author: "ANNA",
		}, &provision.Certificate{
			Role: identity.Agreement, Serial: "ab", Terminal: "T-1", Chain: [][]byte{{1}, {2}}, KeyHash: provision.KeyHash{1}, Renewal: true,
			Issued: noon, NotBefore: noon, NotAfter: later, Revoked: later, Reason: 4,
		}, &provision.Approval{
			ID: id, Requester: who, Source: "192.0.2.1:1", Created: noon, Expires: later,
			Status: keyset.StatusActive, StatusSince: noon, Approver: who, Approved: noon, SelfApproved: true,
			Operation: provision.Operation{
				Action: provision.ActionDrain, Terminal: "T-1", Slot: 1, KeyID: key, First: 1, Last: 3, Count: 2, Until: later, Reason: "why",
			},
		}, &provision.Task{
			ID: id, Kind: provision.TaskSettle, Terminal: "T-1", Body: []byte{1}, Created: noon, Due: later, Tries: 3,
		}
}

// roundTrip writes and reads a row, with every field, and with each field emptied in turn.
func roundTrip[R any](t *testing.T, row *R, marshal func(*R) ([]byte, error), unmarshal func([]byte) (*R, error)) {
	t.Helper()
	seen := map[string]string{}
	for i := -1; i < reflect.TypeFor[R]().NumField(); i++ {
		changed, name := *row, "everything"
		if i >= 0 {
			name = reflect.TypeFor[R]().Field(i).Name
			if reflect.ValueOf(row).Elem().Field(i).IsZero() {
				continue
			}
			reflect.ValueOf(&changed).Elem().Field(i).SetZero()
		}
		b, err := marshal(&changed)
		if err != nil {
			if !errors.Is(err, provision.ErrFormat) || i < 0 {
				t.Errorf("without %s: %v", name, err)
			}
			continue
		}
		if before, ok := seen[string(b)]; ok {
			t.Errorf("without %s is written like %s", name, before)
		}
		seen[string(b)] = name
		got, err := unmarshal(b)
		if err != nil || !reflect.DeepEqual(got, &changed) {
			t.Errorf("without %s: read as %+v, %v", name, got, err)
		}
	}
	if len(seen) < reflect.TypeFor[R]().NumField()/3 {
		t.Errorf("only %d spellings", len(seen))
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	a, b, c, d, e := rows(t)
	roundTrip(t, a, (*provision.Terminal).Marshal, provision.UnmarshalTerminal)
	roundTrip(t, b, (*provision.OneTimeCode).Marshal, provision.UnmarshalOneTimeCode)
	roundTrip(t, c, (*provision.Certificate).Marshal, provision.UnmarshalCertificate)
	roundTrip(t, d, (*provision.Approval).Marshal, provision.UnmarshalApproval)
	roundTrip(t, e, (*provision.Task).Marshal, provision.UnmarshalTask)
	roundTrip(t, &provision.Task{
		ID: e.ID, Kind: provision.TaskOrphans, Terminal: "T-1", Key: provision.KeyHash{1}, Instance: "RA-1", Created: noon, Due: noon.Add(time.Hour), Tries: 1,
	}, (*provision.Task).Marshal, provision.UnmarshalTask)
	o := &provision.Approval{ID: d.ID, Requester: d.Requester, Created: noon, Expires: noon, Operation: provision.Operation{
		Action: provision.ActionRegister, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Endpoints: []string{"https://a.example"},
	}}
	roundTrip(t, o, (*provision.Approval).Marshal, provision.UnmarshalApproval)
	o.Operation = provision.Operation{Action: provision.ActionCode, Terminal: "T-1", Short: true, Lifetime: time.Hour}
	roundTrip(t, o, (*provision.Approval).Marshal, provision.UnmarshalApproval)
	o.Operation = provision.Operation{Action: provision.ActionFleet, Short: true, Lifetime: time.Hour, Total: 300, Parts: []provision.Digest{{1}, {2}}}
	roundTrip(t, o, (*provision.Approval).Marshal, provision.UnmarshalApproval)
	o.Operation = provision.Operation{Action: provision.ActionCompromiseSet, KeySet: "DATA", Successor: "OTHER"}
	roundTrip(t, o, (*provision.Approval).Marshal, provision.UnmarshalApproval)
	e.Kind, e.Terminal = provision.TaskWithdraw, ""
	roundTrip(t, e, (*provision.Task).Marshal, provision.UnmarshalTask)
	o.Operation = provision.Operation{Action: provision.ActionLabel, Terminal: "T-1", Group: "NORTH", Labels: a.Labels}
	roundTrip(t, o, (*provision.Approval).Marshal, provision.UnmarshalApproval)
}

func TestRowsThatBreakARule(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*provision.Terminal){
		"tenant":           func(r *provision.Terminal) { r.Tenant = "shop" },
		"name":             func(r *provision.Terminal) { r.ID = "" },
		"status":           func(r *provision.Terminal) { r.Status = 9 },
		"serial":           func(r *provision.Terminal) { r.Serial = "AB" },
		"serial of parts":  func(r *provision.Terminal) { r.Serial = "abc" },
		"no key":           func(r *provision.Terminal) { r.KeyHash = provision.KeyHash{} },
		"overlap":          func(r *provision.Terminal) { r.PreviousUntil = time.Time{} },
		"time":             func(r *provision.Terminal) { r.StatusSince = noon.Add(1) },
		"before 1970":      func(r *provision.Terminal) { r.Registered = time.Unix(-5, 0) },
		"slot 0":           func(r *provision.Terminal) { r.Slots[0].Number = 0 },
		"slot twice":       func(r *provision.Terminal) { r.Slots[1].Number = 1 },
		"set":              func(r *provision.Terminal) { r.Slots[0].KeySet = "" },
		"set of a key":     func(r *provision.Terminal) { r.Slots[0].Keys[0].KeySet = "x" },
		"order of keys":    func(r *provision.Terminal) { slices.Reverse(r.Slots[0].Keys) },
		"key twice":        func(r *provision.Terminal) { r.Slots[0].Keys[1].ID = r.Slots[0].Keys[0].ID },
		"no key id":        func(r *provision.Terminal) { r.Slots[0].Keys[0].ID = dukpt.KeyID{} },
		"two active keys":  func(r *provision.Terminal) { r.Slots[0].Keys[0].State = keyset.SlotActive },
		"state":            func(r *provision.Terminal) { r.Slots[0].Keys[0].State = 0 },
		"too many slots":   func(r *provision.Terminal) { r.Slots = make([]provision.Slot, 17) },
		"long reason":      func(r *provision.Terminal) { r.StatusReason = strings.Repeat("x", 201) },
		"agreement alone":  func(r *provision.Terminal) { r.AgreementSerial = "" },
		"too many grants":  func(r *provision.Terminal) { r.DrainGrants = make([]keyset.DrainGrant, 17) },
		"group":            func(r *provision.Terminal) { r.Group = "north" },
		"label":            func(r *provision.Terminal) { r.Labels[1].Value = "" },
		"label twice":      func(r *provision.Terminal) { r.Labels[1].Key = "city" },
		"too many labels":  func(r *provision.Terminal) { r.Labels = make([]provision.Label, 17) },
		"too many anchors": func(r *provision.Terminal) { r.Endpoints = make([]string, 17) },
	} {
		r, _, _, _, _ := rows(t)
		change(r)
		if b, err := r.Marshal(); !errors.Is(err, provision.ErrFormat) {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
}

func fuzzRow[R interface{ Marshal() ([]byte, error) }](f *testing.F, seed R, unmarshal func([]byte) (R, error)) {
	b, err := seed.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := unmarshal(b); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := unmarshal(b)
		if err != nil {
			if !errors.Is(err, provision.ErrFormat) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if again, err := r.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x (%v)", b, again, err)
		}
	})
}

func FuzzTerminal(f *testing.F) {
	r, _, _, _, _ := rows(f)
	fuzzRow(f, r, provision.UnmarshalTerminal)
}

func FuzzOneTimeCode(f *testing.F) {
	_, r, _, _, _ := rows(f)
	fuzzRow(f, r, provision.UnmarshalOneTimeCode)
}

func FuzzCertificate(f *testing.F) {
	_, _, r, _, _ := rows(f)
	fuzzRow(f, r, provision.UnmarshalCertificate)
}

func FuzzApproval(f *testing.F) {
	_, _, _, r, _ := rows(f)
	fuzzRow(f, r, provision.UnmarshalApproval)
}

func FuzzTask(f *testing.F) {
	_, _, _, _, r := rows(f)
	fuzzRow(f, r, provision.UnmarshalTask)
}

// FuzzReadCode reads codes as people type them: what is read reads again as itself, and a drawn code reads as it is.
func FuzzReadCode(f *testing.F) {
	for _, short := range []bool{true, false} {
		code := provision.NewCode(short)
		got, ok := provision.ReadCode(code)
		if !ok || !got.Equal(code) {
			f.Fatal("a code that was drawn does not read")
		}
		f.Add(code.Expose())
	}
	f.Add([]byte("0123-4567-89ab-cdef-ghjk-mnpq-rs"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		code, ok := provision.ReadCode(secret.From(typed))
		if !ok {
			return
		}
		if n := code.Len(); n != 26 && n != 13 {
			t.Fatalf("a code of %d characters", n)
		}
		again, ok := provision.ReadCode(code)
		if !ok || !again.Equal(code) {
			t.Fatal("a code does not read as itself")
		}
	})
}

func TestNewCodes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i := range 400 {
		code := provision.NewCode(i%2 == 0)
		text := string(code.Expose())
		if seen[text] || strings.Trim(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
			t.Fatalf("code %d: %q", i, text)
		}
		seen[text] = true
	}
}

// TestEveryCodeTeaches wants a status, a meaning and a hint for each code, in one style, and no code twice.
func TestEveryCodeTeaches(t *testing.T) {
	t.Parallel()
	all := provision.Codes()
	for i, info := range all {
		if info.HTTPStatus < 400 || info.HTTPStatus > 599 || info.Meaning == "" || info.Hint == "" || strings.HasSuffix(info.Meaning, ".") || strings.HasSuffix(info.Hint, ".") {
			t.Errorf("%+v", info)
		}
		if i > 0 && all[i-1].Code >= info.Code {
			t.Errorf("%s is not after %s", info.Code, all[i-1].Code)
		}
		r := &provision.Refusal{Code: info.Code, Detail: "slot 3", Cause: errors.New("the token is locked"), RetryAfter: time.Second}
		if r.Unavailable() != (info.HTTPStatus >= 500) || !strings.HasSuffix(r.Error(), info.Meaning+": slot 3") || !errors.Is(r, r.Cause) {
			t.Errorf("%s: unavailable %t, text %q", info.Code, r.Unavailable(), r)
		}
		p := r.Problem()
		if p.Status != info.HTTPStatus || p.Code != string(info.Code) || p.RetryAfter != time.Second || strings.Contains(p.Message+p.Hint+r.Error(), "token is locked") {
			t.Errorf("%s: problem %+v", info.Code, p)
		}
	}
	if r := (&provision.Refusal{Code: "NoSuchCode"}); !r.Unavailable() || r.Problem().Status != 500 {
		t.Errorf("an unknown code: %v", r)
	}
}

// TestPrint prints everything that holds a secret, in every way.
func TestPrint(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	out := l.do(op(provision.ActionCode, "T-1"))
	defer out.Ticket.Wipe()
	ticket, pepper := string(out.Ticket.Expose()), string(l.config.Pepper.Expose())
	var b bytes.Buffer
	for _, v := range []any{out, *out, l.engine, l.config, &l.config, []*provision.Outcome{out}, struct{ e *provision.Engine }{l.engine}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		j, _ := json.Marshal(v)
		b.Write(j)
	}
	for _, form := range []string{
		ticket[:8], fmt.Sprintf("%x", ticket[:8]), pepper[:8], fmt.Sprintf("%x", pepper[:8]), strings.Trim(fmt.Sprint([]byte(ticket[:8])), "[]"),
		fmt.Sprintf("%X", ticket[:8]), strings.Trim(fmt.Sprint([]byte(pepper[:8])), "[]"),
	} {
		if strings.Contains(b.String(), form) {
			t.Errorf("a secret is printed as %q", form)
		}
	}
	if got := fmt.Sprint(l.engine); got != "provision.Engine(RA-1 of SHOP)" {
		t.Errorf("the engine prints as %s", got)
	}
}

// TestNew refuses what it cannot work with.
func TestNew(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	key, chain := l.certified(l.services, identity.Operator, "ANNA")
	for name, change := range map[string]func(*provision.Config){
		"no store":       func(c *provision.Config) { c.Store = nil },
		"no issuer":      func(c *provision.Config) { c.Issuer = nil },
		"no distributor": func(c *provision.Config) { c.Distributor = nil },
		"no key sets":    func(c *provision.Config) { c.KeySets = nil },
		"no trust list":  func(c *provision.Config) { c.TrustList = nil },
		"no signer":      func(c *provision.Config) { c.Signer = nil },
		"no chain":       func(c *provision.Config) { c.Chain = nil },
		"no instance":    func(c *provision.Config) { c.Instance = "" },
		"no pepper":      func(c *provision.Config) { c.Pepper = secret.Bytes{} },
		"a short pepper": func(c *provision.Config) { c.Pepper = secret.New(31) },
		"no tenant":      func(c *provision.Config) { c.Tenant = "" },
		"no environment": func(c *provision.Config) { c.Environment = 0 },
		"a long overlap": func(c *provision.Config) { c.Overlap = 25 * time.Hour },
		"an operator":    func(c *provision.Config) { c.Signer, c.Chain = key, chain },
		"another key":    func(c *provision.Config) { c.Signer = key },
		"another tenant": func(c *provision.Config) { c.Tenant = "OTHER" },
		"a store that is closed": func(c *provision.Config) {
			s := newLaboratory(t, keyset.Test).store
			check(t, s.Close())
			c.Store = s
		},
	} {
		c := l.config
		change(&c)
		if e, err := provision.New(t.Context(), c); err == nil {
			t.Errorf("%s: %v", name, e)
		}
	}
	// A store of one tenant is not opened for another.
	other := newLaboratory(t, keyset.Test)
	check(t, other.store.Update(t.Context(), func(tx provision.Tx) error {
		m, err := tx.Meta()
		m.Tenant = "OTHER"
		return errors.Join(err, tx.PutMeta(m))
	}))
	if _, err := provision.New(t.Context(), other.config); err == nil {
		t.Error("the registry of another tenant is opened")
	}
}
