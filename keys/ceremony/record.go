package ceremony

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/strictjson"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Kinds of the signed statements in a record, as documents of package keyset.
const (
	KindApproval = "key-ceremony-approval"
	KindLoaded   = "key-ceremony-loaded"
)

// MaxRecord bounds a record in bytes.
const MaxRecord = 256 << 10

const recordVersion = 1

// Record is what a ceremony has come to. It is for one goroutine at a time; [Parse] and [New] make one.
type Record struct {
	plan       Plan
	components []Component
	approvals  []signed
	loaded     *signed
	head       int // bytes of plan and components, which the approvals are of
	text       []byte
}

// Component is one sealed file that belongs to a record.
type Component struct {
	Number    int             `json:"number"`
	Custodian string          `json:"custodian"`
	KCV       keys.CheckValue `json:"kcv"`
	File      string          `json:"file"` // SHA-256 of the sealed file, hexadecimal
}

// Statement is what people sign about a record.
type Statement struct {
	Ceremony string    `json:"ceremony"`
	Record   string    `json:"record"` // SHA-256, hexadecimal: of plan and components for an approval, of all before for what was loaded
	At       time.Time `json:"at"`
	Loaded   *Loaded   `json:"loaded,omitempty"`
}

// Loaded is what came into the token.
type Loaded struct {
	ID          keyset.KeyRef    `json:"id"`
	KCV         keys.KCV         `json:"kcv"`
	Fingerprint keys.Fingerprint `json:"fingerprint"`
	KeyMode     string           `json:"keyMode"`
}

// The lines of a record.
type (
	planLine struct {
		Entry         string             `json:"entry"`
		Version       int                `json:"version"`
		Ceremony      string             `json:"ceremony"`
		Tenant        keyset.TenantID    `json:"tenant"`
		Name          keyset.KeyRef      `json:"name"`
		Algorithm     keys.Algorithm     `json:"algorithm"`
		Usage         string             `json:"usage"`
		Mode          string             `json:"mode"`
		Exportability string             `json:"exportability"`
		Distribution  bool               `json:"distribution,omitempty"` // programs from before it refuse a record that has it
		Environment   keyset.Environment `json:"environment"`
		Parity        string             `json:"parity"`
		KeyKCV        keys.CheckValue    `json:"keyKCV,omitzero"`
		Token         tokenLine          `json:"token"`
		Shares        []shareLine        `json:"shares"`
		Created       time.Time          `json:"created"`
		Expires       time.Time          `json:"expires"`
	}
	tokenLine struct {
		Label  string `json:"label"`
		Serial string `json:"serial"`
	}
	shareLine struct {
		Custodian   string `json:"custodian"`
		Certificate []byte `json:"certificate"`
	}
	componentLine struct {
		Entry string `json:"entry"`
		Component
	}
	signed struct {
		Entry     string    `json:"entry"`
		Statement Statement `json:"statement"`
		Document  []byte    `json:"document"` // keyset.Signed, of the statement
	}
)

// The entries, in the order in which a record has them.
const (
	entryPlan      = "plan"
	entryComponent = "component"
	entryApproval  = "approval"
	entryLoaded    = "loaded"
)

// New begins a record. It draws the id of the ceremony, which the plan leaves empty, and cuts its times to seconds.
func New(p Plan) (*Record, error) {
	if p.Ceremony != "" {
		return nil, fmt.Errorf("%w: it has an id already", ErrPlan)
	}
	p.Ceremony, p.Created, p.Expires = newID(), moment(p.Created), moment(p.Expires)
	if err := p.Validate(); err != nil {
		return nil, err
	}
	r := &Record{plan: p}
	if err := r.add(p.line()); err != nil {
		return nil, err
	}
	r.head = len(r.text)
	return r, nil
}

// Plan returns the plan. The caller does not change it.
func (r *Record) Plan() Plan { return r.plan }

// Components returns the sealed files, in the order of their numbers; none before the first approval.
func (r *Record) Components() []Component { return slices.Clone(r.components) }

// Text returns the record as it is stored. What it returned before is its beginning.
func (r *Record) Text() []byte { return bytes.Clone(r.text) }

// add appends one line.
func (r *Record) add(line any) error {
	b, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if len(r.text)+len(b)+1 > MaxRecord {
		return fmt.Errorf("%w: a record has at most %d bytes", ErrFormat, MaxRecord)
	}
	r.text = append(append(r.text, b...), '\n')
	return nil
}

func (p Plan) line() planLine {
	l := planLine{
		Entry: entryPlan, Version: recordVersion, Ceremony: p.Ceremony, Tenant: p.Tenant, Name: p.Name, Algorithm: p.Attributes.Algorithm,
		Usage: string(p.Attributes.Usage), Mode: p.Attributes.Mode.String(), Exportability: p.Attributes.Exportability.String(),
		Distribution: p.Distribution, Environment: p.Environment, Parity: p.Parity.String(), KeyKCV: p.KeyKCV, Token: tokenLine(p.Token), Created: p.Created, Expires: p.Expires,
	}
	for _, s := range p.Shares {
		l.Shares = append(l.Shares, shareLine(s))
	}
	return l
}

func (l planLine) plan() (Plan, error) {
	if l.Version != recordVersion || len(l.Mode) != 1 || len(l.Exportability) != 1 {
		return Plan{}, fmt.Errorf("%w: plan of version %d, want %d", ErrFormat, l.Version, recordVersion)
	}
	parity, err := keys.ParseParity(l.Parity)
	if err != nil {
		return Plan{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	p := Plan{
		Ceremony: l.Ceremony, Tenant: l.Tenant, Name: l.Name, Distribution: l.Distribution, Environment: l.Environment, Parity: parity, KeyKCV: l.KeyKCV,
		Token: Token(l.Token),
		Attributes: keys.Attributes{
			Algorithm: l.Algorithm, Usage: keys.Usage(l.Usage), Mode: keys.Mode(l.Mode[0]), Exportability: keys.Exportability(l.Exportability[0]),
		},
		Created: l.Created, Expires: l.Expires,
	}
	for _, s := range l.Shares {
		p.Shares = append(p.Shares, Share(s))
	}
	return p, p.Validate()
}

// Parse reads a record, in the one form in which it is written. It believes no statement: [Record.Approvers] and [Record.Begin]
// do. Errors wrap ErrFormat, ErrPlan, ErrCustodian or ErrOther.
func Parse(text []byte) (*Record, error) {
	if len(text) > MaxRecord {
		return nil, fmt.Errorf("%w: record of %d bytes, want at most %d", ErrFormat, len(text), MaxRecord)
	}
	r := new(Record)
	for line := range bytes.Lines(text) {
		if err := r.read(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return nil, err
		}
	}
	if len(r.text) == 0 || !bytes.Equal(r.text, text) {
		return nil, fmt.Errorf("%w: a record begins with a plan, and its lines are spelled as this program does", ErrFormat)
	}
	if n := len(r.components); n != 0 && n != len(r.plan.Shares) {
		return nil, fmt.Errorf("%w: record with %d of %d components", ErrFormat, n, len(r.plan.Shares))
	}
	return r, nil
}

// read takes one line in, spelled anew.
func (r *Record) read(line []byte) error {
	var what struct {
		Entry string `json:"entry"`
	}
	if err := json.Unmarshal(line, &what); err != nil {
		return fmt.Errorf("%w: a line of a record is not JSON", ErrFormat)
	}
	switch {
	case what.Entry == entryPlan && len(r.text) == 0:
		var l planLine
		if err := decode(line, &l); err != nil {
			return err
		}
		p, err := l.plan()
		if err != nil {
			return err
		}
		r.plan = p
		if err := r.add(l); err != nil {
			return err
		}
		r.head = len(r.text)
		return nil
	case what.Entry == entryComponent && len(r.text) == r.head && r.head > 0:
		var l componentLine
		if err := decode(line, &l); err != nil {
			return err
		}
		return r.take(l.Component)
	case what.Entry == entryApproval && len(r.components) > 0 && r.loaded == nil:
		l, err := decodeSigned(line)
		if err != nil {
			return err
		}
		if l.Statement.Loaded != nil {
			return fmt.Errorf("%w: an approval says nothing of what was loaded", ErrFormat)
		}
		r.approvals = append(r.approvals, l)
		return r.add(l)
	case what.Entry == entryLoaded && len(r.approvals) > 0 && r.loaded == nil:
		l, err := decodeSigned(line)
		if err != nil {
			return err
		}
		if l.Statement.Loaded == nil {
			return fmt.Errorf("%w: what was loaded is not said", ErrFormat)
		}
		if l.Statement.Record != digest(r.text) {
			return fmt.Errorf("%w: what was loaded is of another record", ErrOther)
		}
		r.loaded = &l
		return r.add(l)
	}
	return fmt.Errorf("%w: a record has no line %q there", ErrFormat, what.Entry)
}

// decodeSigned reads a line with a statement.
func decodeSigned(line []byte) (signed, error) {
	var l signed
	if err := decode(line, &l); err != nil {
		return l, err
	}
	if !isMoment(l.Statement.At) {
		return l, fmt.Errorf("%w: a time in a record is not in whole seconds of UTC", ErrFormat)
	}
	return l, nil
}

func decode(line []byte, v any) error {
	if err := strictjson.Read(line, MaxRecord, false, v); err != nil {
		return fmt.Errorf("%w: a line of a record: %v", ErrFormat, err)
	}
	return nil
}

// take adds the next component.
func (r *Record) take(c Component) error {
	n := len(r.components)
	if n == len(r.plan.Shares) || c.Number != n+1 || c.Custodian != r.plan.Shares[n].Custodian || len(c.File) != 64 || c.KCV.IsZero() {
		return fmt.Errorf("%w: component %d of %s in a record", ErrFormat, c.Number, c.Custodian)
	}
	r.components = append(r.components, c)
	if err := r.add(componentLine{entryComponent, c}); err != nil {
		return err
	}
	r.head = len(r.text)
	return nil
}

// Collect holds the sealed files of all components, in any order, to the plan, and has the record say which they are. Once it
// does, it takes no others. Errors wrap ErrOther, ErrMissing, ErrFormat or keys.ErrComponents.
func (r *Record) Collect(files [][]byte) error {
	all := make([]Component, len(r.plan.Shares))
	for _, b := range files {
		s, err := ParseSealed(b)
		if err != nil {
			return err
		}
		if err := s.of(r.plan); err != nil {
			return err
		}
		if all[s.Number-1].Number != 0 {
			return fmt.Errorf("%w: component %d is here twice", keys.ErrComponents, s.Number)
		}
		all[s.Number-1] = Component{Number: s.Number, Custodian: r.plan.Shares[s.Number-1].Custodian, KCV: s.KCV, File: digest(b)}
	}
	for i, c := range all {
		if c.Number == 0 {
			return fmt.Errorf("%w: %d of %d, of %s", ErrMissing, i+1, len(all), r.plan.Shares[i].Custodian)
		}
	}
	if len(r.components) > 0 {
		if !slices.Equal(all, r.components) {
			return fmt.Errorf("%w: the record has other sealed components", ErrOther)
		}
		return nil
	}
	for _, c := range all {
		if err := r.take(c); err != nil {
			return err
		}
	}
	return nil
}

// Approve adds the approval of one custodian, who has read plan and components. Errors wrap ErrMissing, ErrDone, ErrExpired,
// ErrCustodian or those of the verifier, which says whether the certificate counts now.
func (r *Record) Approve(c Custodian, v keyset.Verifier, now time.Time) error {
	switch {
	case len(r.components) == 0:
		return fmt.Errorf("%w: there is nothing to approve", ErrMissing)
	case r.loaded != nil:
		return ErrDone
	}
	if err := r.plan.fresh(now); err != nil {
		return err
	}
	st := Statement{Ceremony: r.plan.Ceremony, Record: digest(r.text[:r.head]), At: moment(now)}
	next := &Record{
		plan: r.plan, components: r.components, approvals: slices.Clone(r.approvals), head: r.head, text: slices.Clone(r.text),
	}
	l, err := sign(entryApproval, KindApproval, st, c)
	if err != nil {
		return err
	}
	next.approvals = append(next.approvals, l)
	if err := next.add(l); err != nil {
		return err
	}
	if _, err := next.Approvers(v); err != nil { // also refuses who has approved already
		return err
	}
	*r = *next
	return nil
}

// Approvers returns who has approved plan and components, in their order. Every approval has to count: one that does not
// verify, or is of somebody who is no custodian, fails it, and so does one person who approved twice. Whether they are enough
// is Begin's question. Errors wrap ErrOther, ErrCustodian, keyset.ErrSignature or keyset.ErrFormat.
func (r *Record) Approvers(v keyset.Verifier) ([]string, error) {
	var names, publicKeys []string
	for _, l := range r.approvals {
		if l.Statement.Record != digest(r.text[:r.head]) {
			return nil, fmt.Errorf("%w: an approval is of another record", ErrOther)
		}
		who, pubs, err := r.signers(l, KindApproval, v)
		if err != nil {
			return nil, err
		}
		if len(who) != 1 {
			return nil, fmt.Errorf("%w: an approval has %d signatures, want one", ErrFormat, len(who))
		}
		names, publicKeys = append(names, who...), append(publicKeys, pubs...)
	}
	return names, distinct(names, publicKeys)
}

// Loaded returns what was loaded and who says so, or nil: all custodians of the plan and nobody else. Errors are those of
// Approvers.
func (r *Record) Loaded(v keyset.Verifier) (*Statement, []string, error) {
	if r.loaded == nil {
		return nil, nil, nil
	}
	who, pubs, err := r.signers(*r.loaded, KindLoaded, v)
	if err != nil {
		return nil, nil, err
	}
	if err := distinct(who, pubs); err != nil {
		return nil, nil, err
	}
	for _, share := range r.plan.Shares {
		if len(who) != len(r.plan.Shares) || !slices.Contains(who, share.Custodian) {
			return nil, nil, fmt.Errorf("%w: what was loaded is signed by %v, want everybody who has a component", ErrCustodian, who)
		}
	}
	st := r.loaded.Statement
	return &st, who, nil
}

// signers returns who signed a statement about this record: each a custodian whose certificate counts.
func (r *Record) signers(l signed, kind string, v keyset.Verifier) (names, publicKeys []string, err error) {
	want, err := json.Marshal(l.Statement)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if l.Statement.Ceremony != r.plan.Ceremony {
		return nil, nil, fmt.Errorf("%w: a statement is of ceremony %s", ErrOther, l.Statement.Ceremony)
	}
	var refused error
	payload, _, err := keyset.Open(l.Document, kind, func(der []byte) (string, crypto.PublicKey, error) {
		name, pub, err := custodian(v, der)
		if err != nil {
			refused = err
			return "", nil, err
		}
		raw, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			refused = err
			return "", nil, err
		}
		names, publicKeys = append(names, name), append(publicKeys, string(raw))
		return name, pub, nil
	})
	if refused != nil {
		return nil, nil, refused
	}
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(payload, want) {
		return nil, nil, fmt.Errorf("%w: what was signed is not what the record says", ErrOther)
	}
	return names, publicKeys, nil
}

// custodian asks the verifier, and holds the certificate to its role: operators sign other documents, and no ceremony.
func custodian(v keyset.Verifier, der []byte) (string, crypto.PublicKey, error) {
	id, _, err := readCertificate(der)
	if err != nil {
		return "", nil, err
	}
	name, pub, err := v(der)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrCustodian, err)
	}
	if name != nameOf(id) {
		return "", nil, fmt.Errorf("%w: %s is called %s", ErrCustodian, id, name)
	}
	return name, pub, nil
}

// sign makes a line with a statement that all of them sign.
func sign(entry, kind string, st Statement, people ...Custodian) (signed, error) {
	payload, err := json.Marshal(st)
	if err != nil {
		return signed{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	var doc []byte
	for i, c := range people {
		if i == 0 {
			doc, err = keyset.Sign(kind, payload, c.certificate, c.key)
		} else {
			doc, err = keyset.AddSignature(doc, c.certificate, c.key)
		}
		if err != nil {
			return signed{}, err
		}
	}
	return signed{Entry: entry, Statement: st, Document: doc}, nil
}
