package ceremony

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func TestCeremony(t *testing.T) {
	t.Parallel()
	for _, a := range []keys.Algorithm{keys.TDES2, keys.TDES3, keys.AES128, keys.AES256} {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, a)
			l.approve(t, l.anna, l.cleo) // who approves need not hold a component
			again, err := Parse(l.record.Text())
			check(t, err)
			l.record = again
			in := l.load(t)
			for i, p := range []person{l.anna, l.bert} {
				share, number, err := in.Share(l.sealed[i])
				if err != nil || number != i+1 || share.Custodian != "ACME/"+p.cert.Subject.CommonName {
					t.Errorf("share %d of %s: %v", number, share.Custodian, err)
				}
				kcv, err := in.Open(l.sealed[i], p.custodian(t))
				if err != nil || kcv != l.sheets[i].CheckValue {
					t.Fatalf("component %d: %v, %v", i+1, kcv, err)
				}
			}
			k, err := in.Key()
			check(t, err)
			defer k.Wipe()
			check(t, k.Verify(l.plan.KeyKCV))
			if k.Attributes() != l.plan.Attributes {
				t.Errorf("got %v, want %v", k.Attributes(), l.plan.Attributes)
			}
			id, _ := keyset.ParseKeyRef(newID())
			fp, _ := keys.ParseFingerprint(strings.Repeat("ab", 16))
			what := Loaded{ID: id, KCV: k.KCV(), Fingerprint: fp, KeyMode: "token"}
			before := l.record.Text()
			check(t, in.Finish(what))
			after, err := Parse(l.record.Text())
			check(t, err)
			if !bytes.HasPrefix(after.Text(), before) {
				t.Error("a record was changed, not appended to")
			}
			st, who, err := after.Loaded(l.verifier())
			if err != nil || *st.Loaded != what || fmt.Sprint(who) != "[ACME/ANNA ACME/BERT]" || !st.At.Equal(later) {
				t.Errorf("%+v by %v, %v", st, who, err)
			}
			if names, err := after.Approvers(l.verifier()); err != nil || fmt.Sprint(names) != "[ACME/ANNA ACME/CLEO]" {
				t.Errorf("approved by %v, %v", names, err)
			}
			if _, err := after.Begin(l.verifier(), token, later); !errors.Is(err, ErrDone) {
				t.Errorf("a second loading: %v", err)
			}
			if err := after.Approve(l.bert.custodian(t), l.verifier(), later); !errors.Is(err, ErrDone) {
				t.Errorf("approval of a key that is loaded: %v", err)
			}
			text := string(after.Text())
			for _, s := range l.sheets {
				sheet, err := s.Text()
				check(t, err)
				for _, line := range strings.Split(string(sheet.Expose()), "\n") {
					if digits, ok := strings.CutPrefix(line, "value: "); ok && strings.Contains(text, strings.ReplaceAll(digits, " ", "")) {
						t.Error("the record has a component")
					}
				}
			}
		})
	}
}

// TestDraw: components that nobody brought make a key that nobody knew; its check value is known afterwards.
func TestDraw(t *testing.T) {
	t.Parallel()
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES192} {
		l := newLab(t, a)
		l.plan.Ceremony, l.plan.KeyKCV, l.plan.Parity, l.sheets = "", keys.CheckValue{}, keys.ParityRequired, nil
		l.begin(t)
		for n := 1; n <= 2; n++ {
			s, err := Draw(l.plan, n)
			check(t, err)
			b, err := Seal(l.plan, s, later)
			check(t, err)
			s.Wipe()
			l.sealed = append(l.sealed, b)
		}
		l.approve(t, l.anna, l.bert)
		in := l.load(t)
		for i, p := range []person{l.anna, l.bert} {
			_, err := in.Open(l.sealed[i], p.custodian(t))
			check(t, err)
		}
		k, err := in.Key()
		check(t, err)
		k.Wipe()
		for _, n := range []int{0, 3} {
			if _, err := Draw(l.plan, n); !errors.Is(err, ErrPlan) {
				t.Errorf("component %d of 2: %v", n, err)
			}
		}
		if _, err := Draw(Plan{}, 1); !errors.Is(err, ErrPlan) {
			t.Errorf("no plan: %v", err)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.TDES2)
	operator := newPerson(t, identity.Operator, "OPERATOR-1")
	sameKey := certified(t, identity.Custodian, "BERT", ecdsaOf(l.anna))
	p384 := onP384(t)
	for name, tt := range map[string]struct {
		change func(*Plan)
		want   error
	}{
		"one custodian twice":    {func(p *Plan) { p.Shares[1] = p.Shares[0] }, ErrCustodian},
		"one person, two keys":   {func(p *Plan) { p.Shares[1] = Share{"ACME/ANNA", newPerson(t, identity.Custodian, "ANNA").cert.Raw} }, ErrCustodian},
		"two people, one key":    {func(p *Plan) { p.Shares[1] = Share{"ACME/BERT", sameKey.cert.Raw} }, ErrCustodian},
		"another name":           {func(p *Plan) { p.Shares[1].Custodian = "ACME/CLEO" }, ErrCustodian},
		"another tenant":         {func(p *Plan) { p.Tenant = "OTHER" }, ErrCustodian},
		"an operator":            {func(p *Plan) { p.Shares[1] = Share{"ACME/OPERATOR-1", operator.cert.Raw} }, ErrCustodian},
		"a key on another curve": {func(p *Plan) { p.Shares[1] = Share{"ACME/BERT", p384.Raw} }, ErrCustodian},
		"no certificate":         {func(p *Plan) { p.Shares[1].Certificate = []byte{1} }, ErrPlan},
		"one component":          {func(p *Plan) { p.Shares = p.Shares[:1] }, ErrPlan},
		"an id":                  {func(p *Plan) { p.Ceremony = newID() }, ErrPlan},
		"a key that may leave":   {func(p *Plan) { p.Attributes.Exportability = keys.Exportable }, ErrPlan},
		"no usage":               {func(p *Plan) { p.Attributes.Usage = "" }, ErrPlan},
		"a PIN key for terminals": {func(p *Plan) {
			p.Distribution, p.Attributes.Usage, p.Attributes.Mode = true, keys.UsagePIN, keys.ModeEncrypt
		}, ErrPlan},
		"no environment":          {func(p *Plan) { p.Environment = 0 }, ErrPlan},
		"no parity":               {func(p *Plan) { p.Parity = 0 }, ErrPlan},
		"a check value of others": {func(p *Plan) { p.KeyKCV, _ = keys.ParseCheckValue("hmac:010203") }, ErrPlan},
		"no label":                {func(p *Plan) { p.Token.Label = "" }, ErrPlan},
		"a serial with a line":    {func(p *Plan) { p.Token.Serial = "1\n2" }, ErrPlan},
		"no alias":                {func(p *Plan) { p.Name = keyset.KeyRef{} }, ErrPlan},
		"no time":                 {func(p *Plan) { p.Expires = p.Created }, ErrPlan},
		"too much time":           {func(p *Plan) { p.Expires = p.Created.Add(MaxLife + time.Second) }, ErrPlan},
	} {
		p := l.plan
		p.Ceremony, p.Shares = "", append([]Share(nil), p.Shares...)
		tt.change(&p)
		if _, err := New(p); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.TDES2)
	even := sheetOf(t, keys.TDES2, 1, 2, "1111111111111111AAAAAAAAAAAAAAAA")
	wrong := l.sheets[0]
	wrong.CheckValue = l.sheets[1].CheckValue
	other := l.sheets[0]
	other.KeyCheckValue = l.sheets[0].CheckValue
	third := l.sheets[0]
	third.Number, third.Of = 3, 3
	for name, tt := range map[string]struct {
		sheet keys.Sheet
		plan  func(*Plan)
		at    time.Time
		want  error
	}{
		"another check value":  {wrong, nil, later, keys.ErrCheckValue},
		"of another key":       {other, nil, later, keys.ErrComponents},
		"three of three":       {third, nil, later, ErrOther},
		"of another algorithm": {sheetOf(t, keys.AES128, 1, 2, partA), nil, later, keys.ErrComponents},
		"no parity":            {even, func(p *Plan) { p.Parity = keys.ParityRequired }, later, keys.ErrParity},
		"too late":             {l.sheets[0], nil, l.plan.Expires, ErrExpired},
		"no plan":              {l.sheets[0], func(p *Plan) { *p = Plan{} }, later, ErrPlan},
	} {
		p := l.plan
		if tt.plan != nil {
			tt.plan(&p)
		}
		if _, err := Seal(p, tt.sheet, tt.at); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestFlippedBits: no bit of a sealed component can be another one.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	key, err := exchanger(l.anna.key)
	check(t, err)
	s, err := ParseSealed(l.sealed[0])
	check(t, err)
	sheet, err := s.open(key)
	check(t, err)
	sheet.Wipe()
	for i := range l.sealed[0] {
		for bit := range 8 {
			b := bytes.Clone(l.sealed[0])
			b[i] ^= 1 << bit
			s, err := ParseSealed(b)
			if err == nil {
				_, err = s.open(key)
			}
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSealed) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	l.approve(t, l.anna, l.bert)
	renewed := certified(t, identity.Custodian, "ANNA", ecdsaOf(l.anna))
	another, err := Seal(l.plan, l.sheets[0], later) // the same component, sealed again
	check(t, err)
	foreign := newLab(t, keys.AES128)
	for name, tt := range map[string]struct {
		sealed []byte
		person person
		want   error
	}{
		"by another custodian":             {l.sealed[0], l.bert, ErrCustodian},
		"with another certificate":         {l.sealed[0], renewed, ErrCustodian},
		"a file that was not approved":     {another, l.anna, ErrOther},
		"a component of another ceremony":  {foreign.sealed[0], l.anna, ErrOther},
		"no sealed component":              {[]byte("x"), l.anna, ErrFormat},
		"a file that goes on":              {append(bytes.Clone(l.sealed[0]), 0), l.anna, ErrFormat},
		"a file of more bytes than it has": {make([]byte, MaxSealed+1), l.anna, ErrFormat},
	} {
		in := l.load(t)
		if _, err := in.Open(tt.sealed, tt.person.custodian(t)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	in := l.load(t)
	_, err = in.Open(l.sealed[0], l.anna.custodian(t))
	check(t, err)
	if _, err := in.Open(l.sealed[0], l.anna.custodian(t)); !errors.Is(err, keys.ErrComponents) {
		t.Errorf("one component twice: %v", err)
	}
	if _, err := in.Key(); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "ACME/BERT") {
		t.Errorf("half a key: %v", err)
	}
	if err := in.Finish(Loaded{}); !errors.Is(err, ErrMissing) {
		t.Errorf("the end of half a ceremony: %v", err)
	}
	if _, _, err := in.Share(foreign.sealed[0]); !errors.Is(err, ErrOther) {
		t.Errorf("whose is a foreign one: %v", err)
	}
	gone, err := l.record.Begin(trusted(l.anna, l.bert), token, later)
	check(t, err)
	gone.verifier = trusted(l.bert) // in between ANNA's certificate was revoked
	if _, err := gone.Open(l.sealed[0], l.anna.custodian(t)); !errors.Is(err, errStranger) {
		t.Errorf("a certificate that counts no more: %v", err)
	}
}

func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	begin := func(in Token, at time.Time) error {
		_, err := l.record.Begin(l.verifier(), in, at)
		return err
	}
	if err := begin(token, later); !errors.Is(err, ErrMissing) {
		t.Errorf("nothing collected: %v", err)
	}
	if err := l.record.Approve(l.anna.custodian(t), l.verifier(), later); !errors.Is(err, ErrMissing) {
		t.Errorf("nothing to approve: %v", err)
	}
	l.approve(t, l.anna)
	if err := begin(token, later); !errors.Is(err, keyset.ErrApprovals) {
		t.Errorf("one approval: %v", err)
	}
	before := string(l.record.Text())
	if err := l.record.Approve(l.anna.custodian(t), l.verifier(), later); !errors.Is(err, ErrCustodian) {
		t.Errorf("one custodian twice: %v", err)
	}
	renewed := certified(t, identity.Custodian, "ANNA", ecdsaOf(newPerson(t, identity.Custodian, "ANNA")))
	if err := l.record.Approve(renewed.custodian(t), trusted(l.anna, renewed), later); !errors.Is(err, ErrCustodian) {
		t.Errorf("one custodian with another certificate: %v", err)
	}
	other := certified(t, identity.Custodian, "CLEO", ecdsaOf(l.anna))
	if err := l.record.Approve(other.custodian(t), trusted(l.anna, other), later); !errors.Is(err, ErrCustodian) {
		t.Errorf("one key under two names: %v", err)
	}
	if err := l.record.Approve(l.bert.custodian(t), trusted(l.anna), later); !errors.Is(err, errStranger) {
		t.Errorf("a stranger: %v", err)
	}
	if err := l.record.Approve(l.bert.custodian(t), l.verifier(), l.plan.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("too late: %v", err)
	}
	if string(l.record.Text()) != before {
		t.Error("what was refused is in the record")
	}
	check(t, l.record.Approve(l.bert.custodian(t), l.verifier(), later))
	if err := begin(Token{"acquirer", "other"}, later); !errors.Is(err, ErrOther) {
		t.Errorf("another token: %v", err)
	}
	if err := begin(token, l.plan.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("too late: %v", err)
	}
	check(t, begin(token, later))
	if _, err := l.record.Begin(trusted(l.anna), token, later); !errors.Is(err, errStranger) {
		t.Errorf("an approval of somebody who counts no more: %v", err)
	}
}

// TestOperatorsDoNotApprove: the verifier of documents takes operators, a ceremony does not.
func TestOperatorsDoNotApprove(t *testing.T) {
	t.Parallel()
	operator := newPerson(t, identity.Operator, "OPERATOR-1")
	if _, err := NewCustodian(operator.cert, operator.key); !errors.Is(err, ErrCustodian) {
		t.Errorf("%v", err)
	}
	l := newLab(t, keys.AES128)
	l.approve(t, l.anna)
	st := Statement{Ceremony: l.plan.Ceremony, Record: digest(l.record.text[:l.record.head]), At: later}
	line, err := sign(entryApproval, KindApproval, st, Custodian{certificate: operator.cert.Raw, key: operator.key})
	check(t, err)
	l.record.approvals = append(l.record.approvals, line)
	check(t, l.record.add(line))
	r, err := Parse(l.record.Text())
	check(t, err)
	if _, err := r.Begin(trusted(l.anna, operator), token, later); !errors.Is(err, ErrCustodian) {
		t.Errorf("%v", err)
	}
}

func TestCollectRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	again, err := Seal(l.plan, l.sheets[0], later)
	check(t, err)
	for name, tt := range map[string]struct {
		files [][]byte
		want  error
	}{
		"one":                {l.sealed[:1], ErrMissing},
		"one twice":          {[][]byte{l.sealed[0], again}, keys.ErrComponents},
		"no file":            {[][]byte{l.sealed[0], nil}, ErrFormat},
		"one from elsewhere": {[][]byte{l.sealed[0], newLab(t, keys.AES128).sealed[1]}, ErrOther},
	} {
		if err := l.record.Collect(tt.files); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if len(l.record.Components()) != 0 {
			t.Fatalf("%s: the record has components", name)
		}
	}
	check(t, l.record.Collect([][]byte{l.sealed[1], l.sealed[0]}))
	check(t, l.record.Collect(l.sealed))
	if err := l.record.Collect([][]byte{again, l.sealed[1]}); !errors.Is(err, ErrOther) {
		t.Errorf("other files: %v", err)
	}
}

// TestHeaderIsPlan changes each member of a header by sealing again under a plan that differs.
func TestHeaderIsPlan(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.TDES2)
	for name, change := range map[string]func(*Plan){
		"name":       func(p *Plan) { p.Name, _ = keyset.ParseKeyRef("alias/other") },
		"expiry":     func(p *Plan) { p.Expires = p.Expires.Add(time.Second) },
		"ceremony":   func(p *Plan) { p.Ceremony = newID() },
		"custodian":  func(p *Plan) { p.Shares = []Share{{"ACME/CLEO", l.cleo.cert.Raw}, p.Shares[1]} },
		"components": func(p *Plan) { p.Shares = append(p.Shares[:2:2], Share{"ACME/CLEO", l.cleo.cert.Raw}) },
		"key":        func(p *Plan) { p.KeyKCV = keys.CheckValue{} },
	} {
		p := l.plan
		change(&p)
		s := l.sheets[0]
		s.Of, s.KeyCheckValue = len(p.Shares), keys.CheckValue{}
		b, err := Seal(p, s, later)
		check(t, err)
		if err := l.record.Collect([][]byte{b, l.sealed[1]}); !errors.Is(err, ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSheetIsHeader seals sheets under headers that say something else: what was approved is the header.
func TestSheetIsHeader(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	for name, tt := range map[string]struct {
		sheet keys.Sheet
		want  error
	}{
		"another component": {sheetOf(t, keys.AES128, 1, 2, partA), keys.ErrCheckValue},
		"another number":    {l.sheets[1], ErrOther},
		"another algorithm": {sheetOf(t, keys.TDES2, 1, 2, partA), ErrOther},
		"no check value":    {keys.Sheet{}, ErrFormat},
	} {
		b := forge(t, l.plan, l.sealed[0], tt.sheet)
		l2 := *l
		l2.record, l2.sealed = fresh(t, l), [][]byte{b, l.sealed[1]}
		l2.approve(t, l.anna, l.bert)
		if _, err := l2.load(t).Open(b, l.anna.custodian(t)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestWrongKey: components that are right by themselves make another key than the plan says.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	l.plan.Ceremony, l.sheets = "", []keys.Sheet{sheetOf(t, keys.AES128, 1, 2, partA), sheetOf(t, keys.AES128, 2, 2, partB)}
	l.begin(t)
	l.approve(t, l.anna, l.bert)
	in := l.load(t)
	for i, p := range []person{l.anna, l.bert} {
		_, err := in.Open(l.sealed[i], p.custodian(t))
		check(t, err)
	}
	if _, err := in.Key(); !errors.Is(err, keys.ErrCheckValue) {
		t.Errorf("%v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	planOnly := string(l.record.Text())
	l.approve(t, l.anna, l.bert)
	lines := strings.SplitAfter(string(l.record.Text()), "\n")
	join := func(parts ...string) string { return strings.Join(parts, "") }
	for name, text := range map[string]string{
		"nothing":                         "",
		"no JSON":                         "x\n",
		"no plan":                         join(lines[1:]...),
		"two plans":                       planOnly + planOnly,
		"one of two components":           join(lines[:2]...),
		"components in their wrong order": join(lines[0], lines[2], lines[1]),
		"an approval of nothing":          join(lines[0], lines[3]),
		"a component afterwards":          join(lines[0], lines[1], lines[2], lines[3], lines[1]),
		"no line end":                     strings.TrimSuffix(planOnly, "\n"),
		"a space":                         strings.Replace(planOnly, "{", "{ ", 1),
		"another member":                  strings.Replace(planOnly, "{", `{"x":1,`, 1),
		"another version":                 strings.Replace(planOnly, `"version":1`, `"version":2`, 1),
		"no distribution, in words":       strings.Replace(planOnly, `,"environment"`, `,"distribution":false,"environment"`, 1),
		"another parity":                  strings.Replace(planOnly, `"adjusted"`, `"odd"`, 1),
		"another mode":                    strings.Replace(planOnly, `"mode":"X"`, `"mode":"XX"`, 1),
		"an unknown entry":                strings.Replace(planOnly, `"entry":"plan"`, `"entry":"scheme"`, 1),
		"too much":                        strings.Repeat("x", MaxRecord+1),
		"an approval of what was loaded":  join(lines[:3]...) + strings.Replace(lines[3], `"at":`, `"loaded":{"id":"`+newID()+`","kcv":"010203","fingerprint":"`+strings.Repeat("ab", 16)+`","keyMode":"token"},"at":`, 1),
		"a loading of nothing":            join(lines[:5]...) + strings.Replace(lines[3], entryApproval, entryLoaded, 1),
		"a time in fractions":             join(lines[:3]...) + strings.Replace(lines[3], `Z"`, `.5Z"`, 1),
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestApprovalsAreOfTheRecord changes the record under its approvals.
func TestApprovalsAreOfTheRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	l.approve(t, l.anna, l.bert)
	text := string(l.record.Text())
	for name, tt := range map[string]struct {
		old, new string
		want     error
	}{
		"another token":      {`"acquirer"`, `"attacker"`, ErrOther},
		"another host":       {`,"environment"`, `,"distribution":true,"environment"`, ErrOther},
		"another name":       {"alias/bdk-1", "alias/bdk-2", ErrOther},
		"another file":       {l.record.components[0].File, strings.Repeat("0", 64), ErrOther},
		"another time":       {`"at":"2026-03-01T10`, `"at":"2026-03-01T11`, ErrOther},
		"another signature":  {string(must(json.Marshal(l.record.approvals[0].Document))), string(must(json.Marshal(l.record.approvals[1].Document))), ErrOther},
		"another ceremony's": {`"statement":{"ceremony":"` + l.plan.Ceremony, `"statement":{"ceremony":"` + newID(), ErrOther},
	} {
		changed := strings.Replace(text, tt.old, tt.new, 1)
		if changed == text {
			t.Fatalf("%s: nothing changed", name)
		}
		r, err := Parse([]byte(changed))
		if err == nil {
			_, err = r.Begin(l.verifier(), r.plan.Token, later)
		}
		if !errors.Is(err, tt.want) && !(name == "another signature" && errors.Is(err, ErrCustodian)) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestDistribution has a plan for a key-distribution host: the record says it, the approvals are of it, and without it a record is
// spelled as it was before there was such a thing.
func TestDistribution(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	if strings.Contains(string(l.record.Text()), "distribution") {
		t.Errorf("a key for transactions: %s", l.record.Text())
	}
	l.plan.Ceremony, l.plan.Distribution = "", true
	l.begin(t)
	l.approve(t, l.anna, l.bert)
	text := string(l.record.Text())
	r, err := Parse([]byte(text))
	if err != nil || !r.Plan().Distribution || strings.Count(text, `,"distribution":true,"environment"`) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := r.Begin(l.verifier(), token, later); err != nil {
		t.Error(err)
	}
	r, err = Parse([]byte(strings.Replace(text, `,"distribution":true`, "", 1)))
	if err == nil {
		_, err = r.Begin(l.verifier(), token, later)
	}
	if !errors.Is(err, ErrOther) {
		t.Errorf("approved for another host: %v", err)
	}
}

// TestLoadedIsOfTheRecord: what was loaded is of all that stands before it, and signed by different people.
func TestLoadedIsOfTheRecord(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128)
	l.approve(t, l.anna, l.bert)
	in := l.load(t)
	for i, p := range []person{l.anna, l.bert} {
		_, err := in.Open(l.sealed[i], p.custodian(t))
		check(t, err)
	}
	id, _ := keyset.ParseKeyRef(newID())
	kcv, _ := keys.ParseKCV("0102030405")
	fp, _ := keys.ParseFingerprint(strings.Repeat("ab", 16))
	check(t, in.Finish(Loaded{id, kcv, fp, "token"}))
	lines := strings.SplitAfter(string(l.record.Text()), "\n")
	if _, err := Parse([]byte(strings.Join(append(lines[:4:4], lines[5]), ""))); !errors.Is(err, ErrOther) {
		t.Errorf("an approval is missing: %v", err)
	}
	changed := strings.Replace(string(l.record.Text()), "0102030405", "0102030406", 1)
	r, err := Parse([]byte(changed))
	check(t, err)
	if _, _, err := r.Loaded(l.verifier()); !errors.Is(err, ErrOther) {
		t.Errorf("another check value: %v", err)
	}
	if _, _, err := l.record.Loaded(trusted(l.anna)); !errors.Is(err, errStranger) {
		t.Errorf("a stranger: %v", err)
	}
	for name, people := range map[string][]person{"one of two": {l.anna}, "somebody else": {l.anna, l.cleo}, "one more": {l.anna, l.bert, l.cleo}} {
		r, err := Parse([]byte(strings.Join(lines[:5], "")))
		check(t, err)
		var signers []Custodian
		for _, p := range people {
			signers = append(signers, p.custodian(t))
		}
		st := Statement{Ceremony: l.plan.Ceremony, Record: digest(r.text), At: later, Loaded: &Loaded{id, kcv, fp, "token"}}
		line, err := sign(entryLoaded, KindLoaded, st, signers...)
		check(t, err)
		check(t, r.add(line))
		r, err = Parse(r.Text())
		check(t, err)
		if _, _, err := r.Loaded(l.verifier()); !errors.Is(err, ErrCustodian) {
			t.Errorf("signed by %s: %v", name, err)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	c := newPerson(t, identity.Custodian, "ANNA").custodian(t)
	text, err := c.MarshalText()
	check(t, err)
	const want = "ceremony.Custodian(latchkey://ACME/custodian/ANNA)"
	for _, got := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, c)[:len(want)], string(text), slog.AnyValue(c).Resolve().String()} {
		if got != want {
			t.Errorf("got %q", got)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
