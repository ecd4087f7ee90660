package feed

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

var handlers = map[string]testvec.Handler{
	"feed_record": recordVector, "feed_record_refused": recordRefused, "feed_head": headVector, "feed_head_refused": headRefused,
	"feed_page": pageVector, "feed_page_refused": pageRefused, "feed_history": historyVector, "feed_history_refused": historyRefused,
	"feed_envelope": envelopeVector,
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-feed", handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "protocol-feed", handlers, map[string][]string{
		"feed_record": {"generation", "sequence", "previous", "serial"}, "feed_head": {"objects", "hash", "time"}, "feed_page": {"digest", "head", "page"},
		"feed_history": {"hash", "sequence"}, "feed_history_refused": {"sequence"}, "feed_envelope": {"hash", "payload"},
	})
}

// Items of CBOR, written by hand: what this test says the bytes are.
func number(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	case n < 1<<16:
		return []byte{major | 25, byte(n >> 8), byte(n)}
	case n < 1<<32:
		return []byte{major | 26, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	out := []byte{major | 27}
	for shift := 56; shift >= 0; shift -= 8 {
		out = append(out, byte(n>>shift))
	}
	return out
}

func text(s string) []byte     { return append(number(0x60, uint64(len(s))), s...) }
func blob(b []byte) []byte     { return append(number(0x40, uint64(len(b))), b...) }
func list(l [][]byte) []byte   { return append(number(0x80, uint64(len(l))), slices.Concat(l...)...) }
func uintText(s string) []byte { return number(0, must(strconv.ParseUint(s, 10, 64))) }

// dict writes a map whose members are items already, without those that are nil.
func dict(members map[string][]byte) []byte {
	var pairs [][2][]byte
	for k, v := range members {
		if v != nil {
			pairs = append(pairs, [2][]byte{text(k), v})
		}
	}
	slices.SortFunc(pairs, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	out := number(0xa0, uint64(len(pairs)))
	for _, p := range pairs {
		out = append(out, slices.Concat(p[0], p[1])...)
	}
	return out
}

// optional is the item of a value, or nil if that is empty or 0.
func optional(s string, item func(string) []byte) []byte {
	if s == "" || s == "0" {
		return nil
	}
	return item(s)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func blobText(s string) []byte { return blob(must(hex.DecodeString(s))) }

func recordVector(v testvec.Vector) (int, error) {
	var slots, grants [][]byte
	for _, s := range v.Objects("slots") {
		slots = append(slots, dict(map[string][]byte{
			"slot": uintText(s["slot"]), "key-set": text(s["key_set"]), "key-id": blobText(s["key_id"]), "state": text(s["state"]),
		}))
	}
	for _, g := range v.Objects("drain_grants") {
		grants = append(grants, dict(map[string][]byte{
			"id": text(g["id"]), "slot": uintText(g["slot"]), "key-id": blobText(g["key_id"]), "first": uintText(g["first"]),
			"last": uintText(g["last"]), "count": uintText(g["count"]), "until": uintText(g["until"]),
		}))
	}
	members := map[string][]byte{
		"v": number(0, 1), "epoch": uintText(v.String("epoch")), "sequence": uintText(v.String("sequence")), "kind": text("terminal"),
		"previous": optional(v.String("previous"), blobText), "issuer": text(v.String("issuer")), "tenant": text(v.String("tenant")),
		"terminal": text(v.String("terminal")), "serial": optional(v.String("serial"), text),
		"previous-serial": optional(v.String("previous_serial"), text), "previous-until": optional(v.String("previous_until"), uintText),
		"status": text(v.String("status")), "generation": uintText(v.String("generation")),
	}
	if slots != nil {
		members["slots"] = list(slots)
	}
	if grants != nil {
		members["drain-grants"] = list(grants)
	}
	if got := dict(members); !bytes.Equal(got, v.Hex("record")) {
		return 0, fmt.Errorf("by hand it is %x", got)
	}
	r, err := ParseRecord(v.Hex("record"))
	if err != nil {
		return 0, err
	}
	again, err := r.Marshal()
	if err != nil || !bytes.Equal(again, v.Hex("record")) {
		return 0, fmt.Errorf("Marshal gives %x, %v", again, err)
	}
	t := r.Terminal
	until := int64(0)
	if !t.PreviousUntil.IsZero() {
		until = t.PreviousUntil.Unix()
	}
	got := fmt.Sprintf("%d %d %x %s %s %s %s %s %d %v %d", r.Epoch, r.Sequence, hashBytes(r.Previous), r.Issuer, t.Tenant, t.ID, t.Serial, t.PreviousSerial, until, t.Status, t.Generation)
	want := fmt.Sprintf("%s %s %s %s %s %s %s %s %s %s %s", v.String("epoch"), v.String("sequence"), v.String("previous"), v.String("issuer"), v.String("tenant"),
		v.String("terminal"), v.String("serial"), v.String("previous_serial"), v.String("previous_until"), v.String("status"), v.String("generation"))
	if got != want {
		return 0, fmt.Errorf("got %s, want %s", got, want)
	}
	return 14, compareKeys(&t, v)
}

func compareKeys(t *keyset.Terminal, v testvec.Vector) error {
	slots, grants := v.Objects("slots"), v.Objects("drain_grants")
	if len(t.Slots) != len(slots) || len(t.DrainGrants) != len(grants) {
		return fmt.Errorf("%d keys and %d grants, want %d and %d", len(t.Slots), len(t.DrainGrants), len(slots), len(grants))
	}
	for i, w := range slots {
		s := t.Slots[i]
		got := fmt.Sprintf("%d %s %x %v", s.Slot, s.KeySet, s.KeyID.Append(nil), s.State)
		if want := fmt.Sprintf("%s %s %s %s", w["slot"], w["key_set"], w["key_id"], w["state"]); got != want {
			return fmt.Errorf("key %d: got %s, want %s", i+1, got, want)
		}
	}
	for i, w := range grants {
		g := t.DrainGrants[i]
		got := fmt.Sprintf("%s %d %x %d %d %d %d", g.ID, g.Slot, g.KeyID.Append(nil), g.First, g.Last, g.Count, g.Until.Unix())
		want := fmt.Sprintf("%s %s %s %s %s %s %s", w["id"], w["slot"], w["key_id"], w["first"], w["last"], w["count"], w["until"])
		if got != want {
			return fmt.Errorf("grant %d: got %s, want %s", i+1, got, want)
		}
	}
	return nil
}

// refused compares an error with what a refused vector wants.
func refused(v testvec.Vector, err error) (int, error) {
	if err == nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	if !strings.Contains(err.Error(), v.String("error")) || !strings.HasPrefix(err.Error(), "feed: ") {
		return 0, fmt.Errorf("refused with %q, want %q", err, v.String("error"))
	}
	return 1, nil
}

func recordRefused(v testvec.Vector) (int, error) {
	_, err := ParseRecord(v.Hex("record"))
	return refused(v, err)
}

func headVector(v testvec.Vector) (int, error) {
	byHand := dict(map[string][]byte{
		"v": number(0, 1), "tenant": text(v.String("tenant")), "epoch": uintText(v.String("epoch")), "sequence": uintText(v.String("sequence")),
		"hash": optional(v.String("hash"), blobText), "time": uintText(v.String("time")), "snapshot": optional(v.String("snapshot"), blobText),
		"objects": uintText(v.String("objects")),
	})
	if !bytes.Equal(byHand, v.Hex("head")) {
		return 0, fmt.Errorf("by hand it is %x", byHand)
	}
	h, err := ParseHead(v.Hex("head"))
	if err != nil {
		return 0, err
	}
	again, err := h.Marshal()
	if err != nil || !bytes.Equal(again, v.Hex("head")) {
		return 0, fmt.Errorf("Marshal gives %x, %v", again, err)
	}
	got := fmt.Sprintf("%s %d %d %x %d %x %d", h.Tenant, h.Epoch, h.Sequence, hashBytes(h.Hash), h.Time.UnixMilli(), hashBytes(h.Snapshot), h.Objects)
	want := fmt.Sprintf("%s %s %s %s %s %s %s", v.String("tenant"), v.String("epoch"), v.String("sequence"), v.String("hash"), v.String("time"), v.String("snapshot"), v.String("objects"))
	if got != want {
		return 0, fmt.Errorf("got %s, want %s", got, want)
	}
	return 9, nil
}

func headRefused(v testvec.Vector) (int, error) {
	_, err := ParseHead(v.Hex("head"))
	return refused(v, err)
}

// pageByHand writes a page, and the digest of its records as a snapshot.
func pageByHand(v testvec.Vector) (page []byte, digest [sha256.Size]byte) {
	members := map[string][]byte{"v": number(0, 1), "head": blob(v.Hex("head"))}
	for _, name := range []string{"records", "chain"} {
		var items [][]byte
		for _, s := range v.Strings(name) {
			items = append(items, blobText(s))
		}
		if items != nil {
			members[name] = list(items)
		}
	}
	if v.String("snapshot") == "yes" {
		members["snapshot"] = []byte{0xf5} // true
	}
	var hashes []byte
	for _, s := range v.Strings("records") {
		h := sha256.Sum256(must(hex.DecodeString(s)))
		hashes = append(hashes, h[:]...)
	}
	return dict(members), sha256.Sum256(hashes)
}

func pageVector(v testvec.Vector) (int, error) {
	page, digest := pageByHand(v)
	if !bytes.Equal(page, v.Hex("page")) || !bytes.Equal(digest[:], v.Hex("digest")) {
		return 0, fmt.Errorf("by hand it is %x, and its digest %x", page, digest)
	}
	p, err := ParsePage(v.Hex("page"))
	if err != nil {
		return 0, err
	}
	again, err := p.Marshal()
	if err != nil || !bytes.Equal(again, v.Hex("page")) {
		return 0, fmt.Errorf("Marshal gives %x, %v", again, err)
	}
	got := fmt.Sprintf("%x %x %x %t", p.Head, p.Records, p.Chain, p.Snapshot)
	want := fmt.Sprintf("%s %v %v %t", v.String("head"), v.Strings("records"), v.Strings("chain"), v.String("snapshot") == "yes")
	if got != want {
		return 0, fmt.Errorf("got %s, want %s", got, want)
	}
	if d := SnapshotDigest(p.Records); !bytes.Equal(d[:], v.Hex("digest")) {
		return 0, fmt.Errorf("digest %x, want %s", d, v.String("digest"))
	}
	return 8, nil
}

func pageRefused(v testvec.Vector) (int, error) {
	_, err := ParsePage(v.Hex("page"))
	return refused(v, err)
}

// shown shows a new follower the pages of a vector, and returns what it says about the last of them.
func shown(v testvec.Vector) (*Follower, error) {
	root, err := x509.ParseCertificate(v.Hex("root"))
	if err != nil {
		return nil, err
	}
	now := time.Unix(must(strconv.ParseInt(v.String("now"), 10, 64)), 0)
	o := Options{
		URLs: []string{"https://127.0.0.1:1"}, Client: &http.Client{Transport: &http.Transport{}}, Services: x509.NewCertPool(),
		Tenant: keyset.TenantID(v.String("tenant")), Clock: func() time.Time { return now }, Logger: quiet,
	}
	o.Services.AddCert(root)
	f, err := New(o)
	if err != nil {
		return nil, err
	}
	for i, page := range v.Strings("pages") {
		_, err = f.learn(must(hex.DecodeString(page)))
		if err != nil && i < len(v.Strings("pages"))-1 {
			return nil, fmt.Errorf("page %d: %w", i+1, err)
		}
	}
	return f, err
}

func historyVector(v testvec.Vector) (int, error) {
	f, err := shown(v)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(f.state.hash[:], v.Hex("hash")) {
		return 0, fmt.Errorf("hash %x, want %s", f.state.hash, v.String("hash"))
	}
	n, err := compareState(f, v)
	return n + 1, err
}

func historyRefused(v testvec.Vector) (int, error) {
	f, err := shown(v)
	if f == nil {
		return 0, err
	}
	if n, err := refused(v, err); err != nil {
		return n, err
	}
	n, err := compareState(f, v)
	return n + 1, err
}

// compareState compares what a follower knows with what it should.
func compareState(f *Follower, v testvec.Vector) (int, error) {
	epoch, sequence := f.Position()
	if got, want := fmt.Sprintf("%d %d", epoch, sequence), v.String("epoch")+" "+v.String("sequence"); got != want {
		return 0, fmt.Errorf("at %s, want %s", got, want)
	}
	want := v.Map("terminals")
	got := make(map[string]string)
	for _, t := range f.Terminals() {
		got[string(t.ID)] = t.Status.String()
	}
	if fmt.Sprint(got) != fmt.Sprint(want) { // maps print in order
		return 0, fmt.Errorf("terminals %v, want %v", got, want)
	}
	return 1 + len(want), nil
}

func envelopeVector(v testvec.Vector) (int, error) {
	signature := list([][]byte{blob(v.Hex("certificate")), blob(v.Hex("signature"))})
	byHand := list([][]byte{text(v.String("kind")), blob(v.Hex("payload")), list([][]byte{signature})})
	if !bytes.Equal(byHand, v.Hex("envelope")) {
		return 0, fmt.Errorf("by hand it is %x", byHand)
	}
	root, err := x509.ParseCertificate(v.Hex("root"))
	if err != nil {
		return 0, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	now := time.Unix(must(strconv.ParseInt(v.String("now"), 10, 64)), 0)
	verifier, err := NewVerifier(pool, keyset.TenantID(v.String("tenant")), func() time.Time { return now })
	if err != nil {
		return 0, err
	}
	payload, by, err := verifier.open(v.Hex("envelope"), v.String("kind"), [][]byte{v.Hex("issuing")})
	if err != nil || by != "RA-1" || !bytes.Equal(payload, v.Hex("payload")) {
		return 0, fmt.Errorf("opens as %x of %s, %v", payload, by, err)
	}
	hash := sha256.Sum256(v.Hex("envelope"))
	if v.String("kind") == kindRecord {
		_, hash, err = verifier.Record(v.Hex("envelope"), nil)
	} else {
		_, err = verifier.Head(v.Hex("envelope"), nil)
	}
	if err != nil || !bytes.Equal(hash[:], v.Hex("hash")) {
		return 0, fmt.Errorf("hash %x, want %s, %v", hash, v.String("hash"), err)
	}
	return 4, nil
}

// TestOpenSSL has another program verify the signatures, and the chain of the certificate that made them.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	testvec.Program(t, "openssl")
	verified := 0
	verify := func(v testvec.Vector) (int, error) {
		dir := t.TempDir()
		file := func(name string) string { return filepath.Join(dir, name) }
		run := func(args ...string) error {
			out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("openssl %v: %v: %s", args, err, out)
			}
			return nil
		}
		for _, name := range []string{"message", "signature", "certificate", "issuing", "root"} {
			if err := os.WriteFile(file(name), v.Hex(name), 0o600); err != nil {
				return 0, err
			}
		}
		for _, name := range []string{"certificate", "issuing", "root"} {
			if err := run("x509", "-inform", "DER", "-in", file(name), "-out", file(name+".pem")); err != nil {
				return 0, err
			}
		}
		check := func() error {
			return run("dgst", "-sha256", "-verify", file("key.pem"), "-signature", file("signature"), file("message"))
		}
		err := cmp.Or(
			run("x509", "-in", file("certificate.pem"), "-pubkey", "-noout", "-out", file("key.pem")),
			check(),
			run("verify", "-CAfile", file("root.pem"), "-untrusted", file("issuing.pem"), "-attime", v.String("now"), file("certificate.pem")),
		)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(file("message"), append(v.Hex("message"), 0), 0o600); err != nil {
			return 0, err
		}
		if check() == nil {
			return 0, fmt.Errorf("openssl verifies another message")
		}
		verified++
		return 3, nil
	}
	only := map[string]testvec.Handler{"feed_envelope": verify}
	var rest []string
	for feature := range handlers {
		if feature != "feed_envelope" {
			rest = append(rest, feature)
		}
	}
	testvec.Run(t, "protocol-feed", only, rest...)
	if verified == 0 {
		t.Error("nothing was verified")
	}
}
