package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// vector is what a vector of testdata/dukpt says of keys.
type vector struct {
	ID          string `json:"id"`
	Feature     string `json:"feature"`
	BDK         string `json:"bdk"`
	IK          string `json:"ik"`
	IKID        string `json:"ikid"`
	KSN         string `json:"ksn"`
	Usage       string `json:"usage"`
	KeyType     string `json:"key_type"`
	WorkingKey  string `json:"working_key"`
	UpdateKey   string `json:"update_key"`
	PINKey      string `json:"pin_key"`
	MACRequest  string `json:"mac_request_key"`
	MACResponse string `json:"mac_response_key"`
	DataRequest string `json:"data_request_key"`
	DataReply   string `json:"data_response_key"`
	Transaction string `json:"transaction_key"`
	IV          string `json:"iv"`
	Data        string `json:"data_ascii"`
	Ciphertext  string `json:"ciphertext"`
}

func readVectors(t *testing.T, name string) []vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "dukpt", name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []vector `json:"vectors"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

// kcvOf is the check value of a published key, by package keys.
func kcvOf(t *testing.T, typ, key string) string {
	t.Helper()
	algorithm := map[string]keys.Algorithm{
		"2TDEA": keys.TDES2, "3TDEA": keys.TDES3, "AES128": keys.AES128, "AES192": keys.AES192, "AES256": keys.AES256,
		"HMAC128": keys.HMAC128, "HMAC192": keys.HMAC192, "HMAC256": keys.HMAC256,
	}[typ]
	raw, err := hex.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	a := keys.Attributes{Algorithm: algorithm, Usage: keys.UsageKEK, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	if algorithm.IsHMAC() {
		a.Usage, a.Mode = keys.UsageHMAC, keys.ModeGenVerify
	}
	k, err := keys.NewKey(a, raw)
	if err != nil {
		t.Fatalf("%s %s: %v", typ, key, err)
	}
	return k.KCV().String()
}

func deriveFrom(t *testing.T, bdk, ksn string) derived {
	t.Helper()
	id, k, err := parseKeyName(ksn)
	if err != nil {
		t.Fatal(err)
	}
	d, err := derive(&console{stdin: strings.NewReader(bdk)}, id, k, "-")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d derived) find(use, direction, typ string) string {
	for _, k := range d.WorkingKeys {
		if k.Use == use && k.Direction == direction && k.Type == typ {
			return k.KCV
		}
	}
	return "no row"
}

// TestDeriveTDES holds every check value against the published working keys of the standard.
func TestDeriveTDES(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, v := range readVectors(t, "dukpt-tdes.json") {
		for _, want := range []struct{ use, direction, key string }{
			{"PIN", "", v.PINKey}, {"MAC", "request", v.MACRequest}, {"MAC", "response", v.MACResponse},
			{"data", "request", v.DataRequest}, {"data", "response", v.DataReply}, {"transaction, bare", "", v.Transaction},
		} {
			if want.key == "" || v.BDK == "" {
				continue
			}
			if _, err := dukpt.ParseKSNHex(v.KSN); err != nil {
				continue // keys of counters that no terminal uses are published too
			}
			compared++
			if got := deriveFrom(t, v.BDK, v.KSN).find(want.use, want.direction, "2TDEA"); got != kcvOf(t, "2TDEA", want.key) {
				t.Errorf("%s: %s %s: got %s", v.ID, want.use, want.direction, got)
			}
		}
	}
	if compared < 40 {
		t.Errorf("only %d keys compared", compared)
	}
}

// TestDeriveMask knows the keys before the one-way step from the transaction key: the masks stand in X9.24-1:2009, table A-1.
func TestDeriveMask(t *testing.T) {
	t.Parallel()
	d := deriveFrom(t, "0123456789ABCDEFFEDCBA9876543210", "FFFF9876543210E00001")
	for direction, key := range map[string]string{
		"request": "042666B4917BCFA368DE9628D0C67BC9", "response": "0426664B9184CFA368DE96D7D0397BC9",
	} {
		if got := d.find("data, mask", direction, "2TDEA"); got != kcvOf(t, "2TDEA", key) {
			t.Errorf("%s: got %s, want %s", direction, got, kcvOf(t, "2TDEA", key))
		}
	}
}

// TestDeriveAES holds every check value against published and twice-computed working keys.
func TestDeriveAES(t *testing.T) {
	t.Parallel()
	uses := map[string][3]string{
		"pin_encryption": {"PIN", "", "1000"}, "key_encryption": {"key encryption", "", "0002"},
		"mac_generation": {"MAC", "request", "2000"}, "mac_verification": {"MAC", "response", "2001"}, "mac_both": {"MAC", "both", "2002"},
		"data_encrypt": {"data", "request", "3000"}, "data_decrypt": {"data", "response", "3001"}, "data_both": {"data", "both", "3002"},
	}
	vectors, bases, compared := readVectors(t, "dukpt-aes.json"), map[string]string{}, map[[3]string]int{}
	for _, v := range vectors {
		if v.BDK != "" && v.IK != "" {
			bases[v.IK] = v.BDK
		}
	}
	for _, v := range vectors {
		use, ok := uses[v.Usage]
		bdk := bases[v.IK]
		if _, err := dukpt.ParseKSNHex(v.KSN); !ok || err != nil || bdk == "" || v.WorkingKey == "" {
			continue
		}
		compared[use]++
		d := deriveFrom(t, bdk, v.KSN)
		if got := d.find(use[0], use[1], v.KeyType); got != kcvOf(t, v.KeyType, v.WorkingKey) {
			t.Errorf("%s: got %s", v.ID, got)
		}
		if !slices.ContainsFunc(d.WorkingKeys, func(k derivedKey) bool {
			return k.Use == use[0] && k.Direction == use[1] && k.Usage == use[2] && k.Type == v.KeyType
		}) {
			t.Errorf("%s: no row of usage %s", v.ID, use[2])
		}
	}
	for _, use := range uses {
		if compared[use] < 10 {
			t.Errorf("%v: only %d keys compared", use, compared[use])
		}
	}
}

// TestDeriveUpdate holds the check values of initial and update keys against published ones.
func TestDeriveUpdate(t *testing.T) {
	t.Parallel()
	bases, compared := map[string]string{}, 0
	for _, v := range readVectors(t, "dukpt-aes.json") {
		if v.BDK != "" && v.IK != "" {
			bases[v.IK] = v.BDK
		}
		if v.UpdateKey == "" || bases[v.IK] == "" {
			continue
		}
		d := deriveFrom(t, bases[v.IK], v.IKID+"00000000")
		if typ := map[int]string{32: "AES128", 48: "AES192", 64: "AES256"}[len(v.IK)]; d.InitialKCV != kcvOf(t, typ, v.IK) {
			t.Errorf("%s: initial key %s", v.ID, d.InitialKCV)
		}
		for _, k := range d.UpdateKeys {
			if k.Type == v.KeyType {
				compared++
				if k.KCV != kcvOf(t, k.Type, v.UpdateKey) {
					t.Errorf("%s: got %s", v.ID, k.KCV)
				}
			}
		}
	}
	if compared < 3 {
		t.Errorf("only %d keys compared", compared)
	}
}
