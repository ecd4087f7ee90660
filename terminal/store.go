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
)

// The files of a terminal. All but the marker are sealed, each under a label that is its name.
const (
	importingName = "importing" // there while an import is under way
	identityName  = "identity"
	countersName  = "counters"
	slotPrefix    = "slot-"    // and the slot number
	messagePrefix = "message-" // and the sequence number, 16 hex digits
)

// sequenceBatch is how many sequence numbers are taken at once; a restart skips what is left of them.
const sequenceBatch = 64

// store reads and writes sealed files.
type store struct {
	fs     FS
	sealer Sealer
}

func label(name string) string { return "latchkey terminal " + name }

// load opens a sealed file. The caller wipes the result. A missing file gives fs.ErrNotExist and ErrState, a damaged one
// ErrState.
func (s store) load(name string) (secret.Bytes, error) {
	sealed, err := ReadFile(s.fs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Bytes{}, fmt.Errorf("%w: %s is missing (%w)", ErrState, name, fs.ErrNotExist)
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: read %s: %w", name, err)
	}
	plain, err := s.sealer.Open(label(name), sealed)
	if errors.Is(err, ErrState) {
		return secret.Bytes{}, fmt.Errorf("%w: %s", ErrState, name)
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: open %s: %w", name, err)
	}
	return plain, nil
}

// save seals and durably replaces a file.
func (s store) save(name string, plain []byte) error {
	sealed, err := s.sealer.Seal(label(name), plain)
	if err != nil {
		return fmt.Errorf("terminal: seal %s: %w", name, err)
	}
	return WriteFile(s.fs, name, sealed)
}

// loadRecord reads a sealed record into v.
func (s store) loadRecord(name string, v any) error {
	plain, err := s.load(name)
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
	return s.save(name, plain)
}

// loadSecret reads a sealed record with one secret, which the caller wipes.
func (s store) loadSecret(name string, v any) (secret.Bytes, error) {
	plain, err := s.load(name)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer plain.Wipe()
	secrets, err := splitSecrets(plain.Expose(), v)
	if err == nil && len(secrets) != 1 {
		wipeAll(secrets)
		err = fmt.Errorf("%d secrets, want 1", len(secrets))
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %s: %v", ErrState, name, err)
	}
	return secrets[0], nil
}

// saveSecret seals a record with one secret, which is neither kept nor wiped.
func (s store) saveSecret(name string, v any, content secret.Bytes) error {
	plain, err := joinSecrets(v, content)
	if err != nil {
		return err
	}
	defer plain.Wipe()
	return s.save(name, plain.Expose())
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
	roots       [][]byte
	endpoints   []Endpoint
	slots       []Slot
}

// identityRecord is what the identity file says beside the private key.
type identityRecord struct {
	Version     uint             `cbor:"v"`
	Tenant      string           `cbor:"tenant"`
	Terminal    string           `cbor:"terminal"`
	Environment string           `cbor:"env"`
	Chain       [][]byte         `cbor:"chain"`
	Roots       [][]byte         `cbor:"roots"`
	Endpoints   []endpointRecord `cbor:"endpoints"`
	Slots       []slotRecord     `cbor:"slots"`
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
	}
	for _, slot := range h.slots {
		r.Slots = append(r.Slots, slot.record())
	}
	return s.saveSecret(identityName, &r, h.tlsKey)
}

func (s store) loadHolder() (*holder, error) {
	var r identityRecord
	key, err := s.loadSecret(identityName, &r)
	if err != nil {
		return nil, err
	}
	h := &holder{
		tenant: keyset.TenantID(r.Tenant), terminal: keyset.TerminalID(r.Terminal),
		chain: r.Chain, tlsKey: key, roots: r.Roots, endpoints: endpointsOf(r.Endpoints),
	}
	h.environment, err = keyset.ParseEnvironment(r.Environment)
	for _, sr := range r.Slots {
		slot, e := sr.slot()
		if err == nil {
			err = e
		}
		h.slots = append(h.slots, slot)
	}
	if err == nil {
		err = validateSlots(h.slots)
	}
	if err == nil && (r.Version != recordVersion || len(h.chain) == 0) {
		err = fmt.Errorf("version %d with %d certificates", r.Version, len(h.chain))
	}
	if err != nil {
		h.tlsKey.Wipe()
		return nil, fmt.Errorf("%w: %s: %v", ErrState, identityName, err)
	}
	return h, nil
}

// counters is what must never go back although no key depends on it.
type counters struct {
	Version   uint     `cbor:"v"`
	Boot      uint64   `cbor:"boot"`      // starts of the terminal
	Sequence  uint64   `cbor:"seq"`       // the first sequence number that was never taken
	Confirmed []string `cbor:"confirmed"` // key ids that the host has confirmed by answering a sign-in
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

// slotHeader is what the file of a slot says beside the registers.
type slotHeader struct {
	Version uint        `cbor:"v"`
	KeyID   dukpt.KeyID `cbor:"id"`
	Jumped  uint64      `cbor:"jumped"` // ordinals given up by jumps
}

func slotName(number uint8) string { return slotPrefix + strconv.Itoa(int(number)) }

func (s store) saveSlot(number uint8, h slotHeader, registers secret.Bytes) error {
	return s.saveSecret(slotName(number), &h, registers)
}

// loadSlot returns the header and the registers of a slot; the caller wipes them.
func (s store) loadSlot(slot Slot) (slotHeader, secret.Bytes, error) {
	var h slotHeader
	name := slotName(slot.Number)
	registers, err := s.loadSecret(name, &h)
	if err != nil {
		return slotHeader{}, secret.Bytes{}, err
	}
	if h.Version != recordVersion || h.KeyID != slot.KeyID {
		registers.Wipe()
		return slotHeader{}, secret.Bytes{}, fmt.Errorf("%w: %s: version %d, key %v", ErrState, name, h.Version, h.KeyID)
	}
	return h, registers, nil
}
