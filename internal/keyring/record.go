package keyring

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	recordVersion = 1
	maxRecord     = 8 << 10
	// labelBlock is the optional block of X9.143 that carries a label of printable text.
	labelBlock = keyblock.OptionalLB
)

// record is the file of one key. Its members are plain and are parsed and checked by record.open.
type record struct {
	Version     int    `json:"v"`
	Ref         string `json:"ref"`
	ID          string `json:"id"`
	Created     string `json:"created"`
	Environment string `json:"environment"`
	KeyVersion  uint32 `json:"version"`
	KCV         string `json:"kcv"`
	Fingerprint string `json:"fingerprint"`
	Block       string `json:"block"`
}

// secretRecord is the file of one version of a named secret.
type secretRecord struct {
	Version    int    `json:"v"`
	Name       string `json:"name"`
	KeyVersion uint32 `json:"version"`
	Created    string `json:"created"`
	KCV        string `json:"kcv"`
	Block      string `json:"block"`
}

// label is what the authenticated block says about the rest of the file.
func (r record) label() string {
	return strings.Join([]string{
		"latchkey-key-1", r.ID, strconv.FormatUint(uint64(r.KeyVersion), 10), r.Environment, r.Created, r.Ref,
	}, " ")
}

func (r secretRecord) label() string {
	return strings.Join([]string{
		"latchkey-secret-1", r.Name, strconv.FormatUint(uint64(r.KeyVersion), 10), r.Created,
	}, " ")
}

// readStrict reads one JSON object. The decoder takes null and leaves absent members alone, so every member is checked
// afterwards by what it must be.
func readStrict(b []byte, v any) error {
	if len(b) > maxRecord {
		return fmt.Errorf("%d bytes, want at most %d", len(b), maxRecord)
	}
	err := json.Unmarshal(b, v, json.RejectUnknownMembers(true))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName):
		return errors.New("unknown member")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("repeated member")
	}
	return errors.New("not the JSON of a key file")
}

func writeStrict(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return append(b, '\n'), nil
}

// open checks a record against its block and returns the key with all that is public about it.
func (r record) open(m *master, labels func(keyset.Environment) labelled) (*entry, error) {
	if r.Version != recordVersion {
		return nil, fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	e := new(entry)
	var err error
	if e.info.Ref, err = keyset.ParseKeyRef(r.Ref); err != nil {
		return nil, err
	}
	if e.info.ID, err = keyset.ParseKeyRef(r.ID); err != nil {
		return nil, err
	}
	if !e.info.Ref.IsAlias() || e.info.ID.IsAlias() || r.KeyVersion < 1 {
		return nil, errors.New("name, id or version is not one")
	}
	env, err := keyset.ParseEnvironment(r.Environment)
	if err != nil {
		return nil, err
	}
	if e.info.Created, err = parseTime(r.Created); err != nil {
		return nil, err
	}
	if e.key, err = m.unwrap(r.Block, r.label()); err != nil {
		return nil, err
	}
	l := labels(env)
	e.info.Version = r.KeyVersion
	e.info.Attributes = e.key.Attributes()
	if e.info.KCV = e.key.KCV(); e.info.KCV.IsZero() { // it would match a file that claims none
		e.wipe()
		return nil, fmt.Errorf("%w: %s", errNoKCV, e.info.Attributes.Algorithm)
	}
	e.info.Fingerprint = e.key.Fingerprint(l.fingerprints)
	e.info.Labels = l.labels
	if e.info.KCV.String() != r.KCV || e.info.Fingerprint.String() != r.Fingerprint {
		e.wipe()
		return nil, errors.New("check value or fingerprint is not that of the key")
	}
	if err := e.prepare(); err != nil {
		e.wipe()
		return nil, err
	}
	return e, nil
}

func (r secretRecord) open(m *master) (keys.Key, error) {
	if r.Version != recordVersion {
		return keys.Key{}, fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	if _, err := parseTime(r.Created); err != nil {
		return keys.Key{}, err
	}
	k, err := m.unwrap(r.Block, r.label())
	if err != nil {
		return keys.Key{}, err
	}
	if k.Attributes() != secretAttributes || k.KCV().String() != r.KCV {
		k.Wipe()
		return keys.Key{}, errors.New("attributes or check value are not those of a secret")
	}
	return k, nil
}

// errNoKCV is no damage: the same file opens in a process that may compute TDES.
var errNoKCV = fmt.Errorf("no check value can be computed for the key: %w", keys.ErrForbidden)

const timeLayout = "2006-01-02T15:04:05Z"

// parseTime takes the one spelling that a time is written in: UTC, whole seconds.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s {
		return time.Time{}, errors.New("date is not like " + timeLayout)
	}
	return t, nil
}
