package decrypt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// requestVersion is the version of the stored form of an asked request.
const requestVersion = 1

// asked is what the service remembers of a message that it released to a host: enough to MAC the acknowledgement of the
// answer. The store keeps it with the claims, under the digest of the message as received.
type asked struct {
	terminal keyset.TerminalID
	slot     uint8     // of the MAC
	ksn      dukpt.KSN // of the MAC
	digests  []message.Digest
}

// wireAsked is the stored form of asked: deterministic CBOR.
type wireAsked struct {
	Version  uint     `cbor:"v"`
	Terminal string   `cbor:"terminal"`
	Slot     uint8    `cbor:"slot"`
	KSN      []byte   `cbor:"ksn"`
	Digests  [][]byte `cbor:"digests"`
}

var askedCodec = canon.New(16, 4)

func (a asked) marshal() ([]byte, error) {
	w := wireAsked{
		Version: requestVersion, Terminal: string(a.terminal), Slot: a.slot, KSN: a.ksn.Append(nil),
	}
	for _, d := range a.digests {
		w.Digests = append(w.Digests, bytes.Clone(d[:]))
	}
	return askedCodec.Marshal(w)
}

func parseAsked(b []byte) (asked, error) {
	var w wireAsked
	if err := askedCodec.Unmarshal(b, &w); err != nil {
		return asked{}, fmt.Errorf("decrypt: stored request: %v", err)
	}
	if w.Version != requestVersion || len(w.Digests) < 1 || len(w.Digests) > 2 {
		return asked{}, fmt.Errorf("decrypt: stored request of version %d with %d digests", w.Version, len(w.Digests))
	}
	ksn, err := dukpt.ParseKSN(w.KSN)
	if err != nil {
		return asked{}, fmt.Errorf("decrypt: stored request: %v", err)
	}
	a := asked{terminal: keyset.TerminalID(w.Terminal), slot: w.Slot, ksn: ksn}
	for _, d := range w.Digests {
		if len(d) != len(message.Digest{}) {
			return asked{}, errors.New("decrypt: stored request: a digest has another length")
		}
		a.digests = append(a.digests, message.Digest(d))
	}
	again, err := a.marshal()
	if err != nil {
		return asked{}, err
	}
	if !bytes.Equal(again, b) {
		return asked{}, errors.New("decrypt: stored request: not the deterministic encoding of its content")
	}
	return a, nil
}
