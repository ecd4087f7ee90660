package terminal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// The files of a terminal. All but the marker are sealed, each under a label that is its name.
const (
	importingName = "importing" // there while an import is under way
	identityName  = "identity"
	countersName  = "counters"
	slotPrefix    = "slot-"    // and the slot number
	stagedSuffix  = "-next"    // after that, for the key that waits there
	messagePrefix = "message-" // and the sequence number, 16 hex digits
)

// sequenceBatch is how many sequence numbers are taken at once; a restart skips what is left of them.
const sequenceBatch = 64

// store reads and writes sealed files.
type store struct {
	fs     FS
	sealer Sealer
	keys   Keys // nil: private keys are sealed with the rest
}

func label(name string) string { return "latchkey terminal " + name }

// load opens a file that is sealed under a label: the newest of its copies that opens. The caller wipes the result. A missing
// file gives fs.ErrNotExist and ErrState, one without a good copy ErrState.
func (s store) load(name, label string) (secret.Bytes, error) {
	file, err := ReadFile(s.fs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Bytes{}, fmt.Errorf("%w: %s is missing (%w)", ErrState, name, fs.ErrNotExist)
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: read %s: %w", name, err)
	}
	plain, _, err := s.open(name, label, file)
	return plain, err
}

// open returns what is in a file, and the room that it stood in.
func (s store) open(name, label string, file []byte) (secret.Bytes, room, error) {
	rooms, _ := readRooms(file)
	for _, r := range rooms {
		plain, err := s.sealer.Open(generationLabel(label, r.generation), r.sealed)
		if err == nil {
			return plain, r, nil
		}
		if !errors.Is(err, ErrState) { // the sealer cannot tell: an older copy is no answer to that
			return secret.Bytes{}, room{}, fmt.Errorf("terminal: open %s: %w", name, err)
		}
	}
	return secret.Bytes{}, room{}, fmt.Errorf("%w: %s", ErrState, name)
}

// save seals a content under a label and durably replaces that of a file.
func (s store) save(name, label string, plain []byte) error {
	return writeCopies(s.fs, name, func(generation uint64) ([]byte, error) {
		sealed, err := s.sealer.Seal(generationLabel(label, generation), plain)
		if err != nil {
			return nil, fmt.Errorf("terminal: seal %s: %w", name, err)
		}
		return sealed, nil
	})
}

// mend makes the copies of every file equal again, of what load gives: after a power cut in the middle of a change, and after
// rot, there are fewer than three.
func (s store) mend() error {
	names, err := s.names("")
	if err != nil {
		return err
	}
	for _, name := range names {
		label, sealed := sealedUnder(name)
		if !sealed {
			continue
		}
		if err := s.mendFile(name, label); err != nil {
			return err
		}
	}
	return nil
}

func (s store) mendFile(name, label string) error {
	file, err := ReadFile(s.fs, name)
	if err != nil {
		return fmt.Errorf("terminal: read %s: %w", name, err)
	}
	if equalRooms(file) {
		return nil
	}
	plain, r, err := s.open(name, label, file)
	if err != nil {
		return err
	}
	plain.Wipe()
	_, blocks := readRooms(file)
	return putRoom(s.fs, name, file, blocks, r)
}

// sealedUnder returns the label of a file, and whether it is one that is sealed.
func sealedUnder(name string) (string, bool) {
	switch {
	case strings.HasSuffix(name, temporarySuffix):
		return "", false
	case name == identityName, name == countersName, name == limitsName, name == renewalName, name == enrolmentName, strings.HasPrefix(name, messagePrefix):
		return label(name), true
	case strings.HasPrefix(name, slotPrefix):
		return label(strings.TrimSuffix(name, stagedSuffix)), true
	}
	return "", false
}

// loadRecord reads a sealed record into v.
func (s store) loadRecord(name string, v any) error {
	plain, err := s.load(name, label(name))
	if err != nil {
		return err
	}
	defer plain.Wipe()
	if err := decodeRecord(plain.Expose(), v); err != nil {
		return fmt.Errorf("%w: %s: %v", ErrState, name, err)
	}
	return nil
}

// saveRecord seals a record that holds no secret.
func (s store) saveRecord(name string, v any) error {
	plain, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return s.save(name, label(name), plain)
}

// loadSecrets reads a sealed record with secrets, which the caller wipes.
func (s store) loadSecrets(name, label string, v any) ([]secret.Bytes, error) {
	plain, err := s.load(name, label)
	if err != nil {
		return nil, err
	}
	defer plain.Wipe()
	secrets, err := splitSecrets(plain.Expose(), v)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrState, name, err)
	}
	return secrets, nil
}

// loadSecret reads a sealed record with one secret, which the caller wipes.
func (s store) loadSecret(name, label string, v any) (secret.Bytes, error) {
	secrets, err := s.loadSecrets(name, label, v)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(secrets) != 1 {
		wipeAll(secrets)
		return secret.Bytes{}, fmt.Errorf("%w: %s: %d secrets, want 1", ErrState, name, len(secrets))
	}
	return secrets[0], nil
}

// saveSecrets seals a record with secrets, which are neither kept nor wiped.
func (s store) saveSecrets(name, label string, v any, content ...secret.Bytes) error {
	plain, err := joinSecrets(v, content...)
	if err != nil {
		return err
	}
	defer plain.Wipe()
	return s.save(name, label, plain.Expose())
}

// names lists the files with a prefix, sorted.
func (s store) names(prefix string) ([]string, error) {
	all, err := s.fs.List()
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, prefix) }), nil
}

// holder is who the terminal is and whom it calls: what the identity file says.
type holder struct {
	tenant      keyset.TenantID
	terminal    keyset.TerminalID
	environment keyset.Environment
	chain       [][]byte
	tlsKey      secret.Bytes // PKCS #8
	roots       [][]byte     // of the services authority
	endpoints   []Endpoint
	slots       []Slot      // whose keys are in use
	next        []Slot      // whose keys wait for a sign-in to confirm them
	member      *membership // nil for a terminal that came from a bundle
}

// copy returns a holder to change, with a membership of its own: the one in use stays as it was saved.
func (h *holder) copy() *holder {
	next := *h
	if h.member != nil {
		member := *h.member
		next.member = &member
	}
	return &next
}

// identity is the terminal in a role.
func (h *holder) identity(role identity.Role) identity.Identity {
	return identity.Identity{Tenant: string(h.tenant), Role: role, Name: string(h.terminal)}
}

// wipe destroys the secrets.
func (h *holder) wipe() {
	h.tlsKey.Wipe()
	if h.member != nil {
		h.member.agreementKey.Wipe()
	}
}

// identityRecord is what the identity file says beside the private keys. A member has no roots of its own: its trust list
// has them.
type identityRecord struct {
	Version     uint             `cbor:"v"`
	Tenant      string           `cbor:"tenant"`
	Terminal    string           `cbor:"terminal"`
	Environment string           `cbor:"env"`
	Chain       [][]byte         `cbor:"chain"`
	Roots       [][]byte         `cbor:"roots"`
	Endpoints   []endpointRecord `cbor:"endpoints"`
	Slots       []slotRecord     `cbor:"slots"`
	Next        []slotRecord     `cbor:"next,omitempty"`

	Member *membershipRecord `cbor:"member,omitempty"`
}

func holderOf(b *Bundle) *holder {
	h := &holder{
		tenant: b.Tenant, terminal: b.Terminal, environment: b.Environment,
		chain: b.Chain, tlsKey: b.PrivateKey, roots: b.Roots, endpoints: b.Endpoints,
	}
	for _, s := range b.Slots {
		h.slots = append(h.slots, s.Slot)
	}
	return h
}

func (s store) saveHolder(h *holder) error {
	r := identityRecord{
		Version: recordVersion, Tenant: string(h.tenant), Terminal: string(h.terminal), Environment: h.environment.String(),
		Chain: h.chain, Roots: h.roots, Endpoints: endpointRecords(h.endpoints),
		Slots: slotRecords(h.slots), Next: slotRecords(h.next),
	}
	secrets := []secret.Bytes{h.tlsKey}
	if h.member != nil {
		member := h.member.record()
		r.Member, r.Roots = &member, [][]byte{}
		secrets = append(secrets, h.member.agreementKey)
	}
	return s.saveSecrets(identityName, label(identityName), &r, secrets...)
}

func (s store) loadHolder() (*holder, error) {
	var r identityRecord
	secrets, err := s.loadSecrets(identityName, label(identityName), &r)
	if err != nil {
		return nil, err
	}
	h, err := r.holder(secrets)
	if err != nil {
		wipeAll(secrets)
		return nil, fmt.Errorf("%w: %s: %v", ErrState, identityName, err)
	}
	return h, nil
}

// holder reads a record; the secrets are kept.
func (r *identityRecord) holder(secrets []secret.Bytes) (*holder, error) {
	want := 1
	if r.Member != nil {
		want++
	}
	if r.Version != recordVersion || len(r.Chain) == 0 || len(secrets) != want {
		return nil, fmt.Errorf("version %d with %d certificates and %d secrets", r.Version, len(r.Chain), len(secrets))
	}
	h := &holder{
		tenant: keyset.TenantID(r.Tenant), terminal: keyset.TerminalID(r.Terminal),
		chain: r.Chain, tlsKey: secrets[0], roots: r.Roots, endpoints: endpointsOf(r.Endpoints),
	}
	var err error
	if h.environment, err = keyset.ParseEnvironment(r.Environment); err != nil {
		return nil, err
	}
	if h.slots, err = slotsOf(r.Slots); err != nil {
		return nil, err
	}
	if h.next, err = slotsOf(r.Next); err != nil {
		return nil, err
	}
	if err := validateNext(h.slots, h.next); err != nil {
		return nil, err
	}
	if r.Member == nil {
		return h, nil
	}
	if h.member, err = r.Member.membership(h.tenant, secrets[1]); err != nil {
		return nil, err
	}
	if h.member.list == nil || len(h.member.agreement) == 0 {
		return nil, errors.New("a member without a trust list or an agreement certificate")
	}
	h.roots = h.member.roots()
	return h, nil
}

// counters is what must never go back although no key depends on it.
type counters struct {
	Version   uint     `cbor:"v"`
	Boot      uint64   `cbor:"boot"`            // starts of the terminal
	Sequence  uint64   `cbor:"seq"`             // the first sequence number that was never taken
	Confirmed []string `cbor:"confirmed"`       // key ids that the host has confirmed by answering a sign-in
	Clock     int64    `cbor:"clock,omitempty"` // a time that is over: the floor of the clock
}

func (s store) loadCounters() (*counters, error) {
	var c counters
	if err := s.loadRecord(countersName, &c); err != nil {
		return nil, err
	}
	if c.Version != recordVersion {
		return nil, fmt.Errorf("%w: %s: version %d, want %d", ErrState, countersName, c.Version, recordVersion)
	}
	return &c, nil
}

func (s store) saveCounters(c *counters) error { return s.saveRecord(countersName, c) }

func (c *counters) confirmed(id dukpt.KeyID) bool { return slices.Contains(c.Confirmed, id.String()) }

// slotHeader is what the file of a key says beside the registers.
type slotHeader struct {
	Version uint        `cbor:"v"`
	KeyID   dukpt.KeyID `cbor:"id"`
	Jumped  uint64      `cbor:"jumped"`      // ordinals given up by jumps
	MaxJump uint32      `cbor:"j,omitempty"` // of a staged key: for one in use the identity says it
}

// slotName is the file of a key by its number in the engine.
func slotName(number uint8) string {
	name := slotPrefix + strconv.Itoa(int(number&^Staged))
	if number&Staged != 0 {
		name += stagedSuffix
	}
	return name
}

// slotLabel is what the file of a key is sealed under: the same while it waits and when it is in use, so that a renaming
// is all that lies between.
func slotLabel(number uint8) string { return label(slotName(number &^ Staged)) }

func (s store) saveSlot(slot Slot, jumped uint64, registers secret.Bytes) error {
	h := slotHeader{Version: recordVersion, KeyID: slot.KeyID, Jumped: jumped}
	if slot.Number&Staged != 0 {
		h.MaxJump = slot.MaxJump
	}
	return s.saveSecrets(slotName(slot.Number), slotLabel(slot.Number), &h, registers)
}

// loadSlot returns the header and the registers of a key by its number in the engine; the caller wipes them.
func (s store) loadSlot(number uint8) (slotHeader, secret.Bytes, error) {
	var h slotHeader
	name := slotName(number)
	registers, err := s.loadSecret(name, slotLabel(number), &h)
	if err != nil {
		return slotHeader{}, secret.Bytes{}, err
	}
	if h.Version != recordVersion {
		registers.Wipe()
		return slotHeader{}, secret.Bytes{}, fmt.Errorf("%w: %s: version %d", ErrState, name, h.Version)
	}
	return h, registers, nil
}
