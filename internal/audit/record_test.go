package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// fromVector builds the record that a vector describes.
func fromVector(v testvec.Vector) (Record, error) {
	c := v.Map("content")
	var version int
	var ms int64
	r := Record{
		Instance: c["instance"], Actor: c["actor"], Role: c["role"], Tenant: c["tenant"], Source: c["source"],
		Action: c["action"], Object: c["object"], Result: c["result"], Reason: c["reason"], KCV: c["kcv"],
	}
	if _, err := fmt.Sscan(c["v"]+" "+c["time"]+" "+c["sequence"], &version, &ms, &r.Sequence); err != nil || version != Version {
		return Record{}, fmt.Errorf("version %d: %v", version, err)
	}
	r.Time = time.UnixMilli(ms).UTC()
	if d := c["digest"]; d != "" {
		if n, err := hex.Decode(r.Digest[:], []byte(d)); err != nil || n != len(r.Digest) {
			return Record{}, fmt.Errorf("digest %q: %v", d, err)
		}
	}
	if v.Has("labels") {
		l := v.Map("labels")
		r.Labels = Labels{KeyMode: l["key-mode"], PINExposure: l["pin-exposure"], Environment: l["environment"]}
	}
	if v.Has("approvals") {
		r.Approvals = v.Strings("approvals")
	}
	return r, nil
}

var recordHandlers = map[string]testvec.Handler{
	"audit_record": func(v testvec.Vector) (int, error) {
		want, err := fromVector(v)
		if err != nil {
			return 0, err
		}
		b, err := want.Encode()
		if err != nil || !bytes.Equal(b, v.Hex("record")) {
			return 0, fmt.Errorf("encoded as %x: %v", b, err)
		}
		got, err := ParseRecord(v.Hex("record"))
		if err != nil || !reflect.DeepEqual(got, want) {
			return 0, fmt.Errorf("read as %+v: %v", got, err)
		}
		if leaf := LeafHash(b); !bytes.Equal(leaf[:], v.Hex("leaf")) {
			return 0, fmt.Errorf("leaf %x", leaf)
		}
		return 3, nil
	},
	"audit_record_refused": func(v testvec.Vector) (int, error) {
		r, err := ParseRecord(v.Hex("record"))
		if !errors.Is(err, ErrRecord) {
			return 0, fmt.Errorf("read as %+v: %v", r, err)
		}
		return 1, nil
	},
}

func TestVectorsRecord(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-audit", recordHandlers)
	testvec.Flip(t, "protocol-audit", recordHandlers, map[string][]string{"audit_record": {"record", "leaf"}})
}

// full is a record with every member.
func full() Record {
	return Record{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), Instance: "decrypt-1", Sequence: 7, Actor: "ACQ-1",
		Role: "acquirer-host", Tenant: "SHOP", Source: "127.0.0.1", Action: "transaction/sale", Object: "FFFF9876543210E00001",
		Result: "REFUSED", Reason: "KsnReplayed", Digest: [32]byte{1, 2, 3}, KCV: "08D7B4",
		Labels: Labels{"software", "host-memory", "test"}, Approvals: []string{"ANNA", "BERT"},
	}
}

// TestRecordMembers empties each member in turn: none is lost, none stands for another.
func TestRecordMembers(t *testing.T) {
	t.Parallel()
	spellings := make(map[string]string)
	base := full()
	for i := range reflect.TypeFor[Record]().NumField() {
		r := base
		f := reflect.ValueOf(&r).Elem().Field(i)
		f.SetZero()
		name := reflect.TypeFor[Record]().Field(i).Name
		b, err := r.Encode()
		if name == "Instance" || name == "Action" || name == "Result" {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("a record without %s: %v", name, err)
			}
			continue
		}
		if name == "Time" {
			r.Time = r.Time.UTC()
		}
		got, perr := ParseRecord(b)
		if err != nil || perr != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("without %s: read as %+v: %v %v", name, got, err, perr)
		}
		if before, ok := spellings[string(b)]; ok {
			t.Errorf("without %s is spelled like without %s", name, before)
		}
		spellings[string(b)] = name
	}
}

func TestRecordLimits(t *testing.T) {
	t.Parallel()
	r := full()
	r.Object = strings.Repeat("x", MaxRecord)
	if _, err := r.Encode(); !errors.Is(err, ErrRecord) {
		t.Errorf("a record that is too long: %v", err)
	}
	if _, err := ParseRecord(make([]byte, MaxRecord+1)); !errors.Is(err, ErrRecord) {
		t.Errorf("bytes that are too long: %v", err)
	}
	r = full()
	r.Approvals = make([]string, maxApprovals+1)
	if _, err := r.Encode(); !errors.Is(err, ErrRecord) {
		t.Errorf("a record with too many approvals: %v", err)
	}
	r.Approvals = r.Approvals[:maxApprovals]
	b, err := r.Encode()
	if err != nil {
		t.Fatalf("a record with as many approvals as allowed: %v", err)
	}
	if _, err := ParseRecord(b); err != nil {
		t.Errorf("a record with as many approvals as allowed: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	r := full()
	f.Add(must(r.Encode()))
	least := Record{Instance: "i", Action: "a", Result: "r", Time: time.UnixMilli(0)}
	f.Add(must(least.Encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %+v, which is written as %x (%v)", b, r, again, err)
		}
	})
}
