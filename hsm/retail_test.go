package hsm

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// legacy has OpenSSL do single DES, which SoftHSM then does, too.
const legacy = `openssl_conf = init
[init]
providers = all
[all]
default = on
legacy = on
[on]
activate = 1
`

// TestSingleDES runs the retail MACs on a SoftHSM that does single DES, in a process of its own: OpenSSL reads how it is to be
// once for each process.
func TestSingleDES(t *testing.T) {
	t.Parallel()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	token := hsmtest.New(t)
	conf := filepath.Join(t.TempDir(), "openssl.cnf")
	if err := os.WriteFile(conf, []byte(legacy), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run", "^TestRetailMACs$", "-test.v")
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+conf, "LATCHKEY_SINGLE_DES="+token.URI())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestRetailMACs") {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestRetailMACs compares retail MACs under working keys of AES DUKPT that are made inside with those of software.
func TestRetailMACs(t *testing.T) {
	name := os.Getenv("LATCHKEY_SINGLE_DES")
	if name == "" {
		t.Skip("TestSingleDES runs this in a process of its own")
	}
	o, faults := withFaults(Options{}, nil)
	token := openAgain(t, mustURI(t, name), o)
	r, err := token.Probe(t.Context())
	if err != nil || !r.OK(CheckRetail) {
		t.Fatalf("%v: %+v", err, r)
	}
	bdk := must(keys.GenerateKey(bdkAttributes(keys.AES128)))
	defer bdk.Wipe()
	base := must(dukpt.NewBaseKey(bdk))
	defer base.Wipe()
	ref := alias(t, "bdk")
	if _, err := token.Import(t.Context(), ref, bdk, keyset.Test); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, counter := range []string{"00000001", "00000003", "0000FFFF"} {
		ksn := must(dukpt.ParseKSNHex("1234567890123456" + counter))
		in, host := must(token.Engine().Begin(t.Context(), ref, ksn)), must(base.Begin(ksn))
		for _, w := range []dukpt.WorkingKey{dukpt.KeyTDES2, dukpt.KeyTDES3} {
			for _, p := range []dukpt.MACPadding{dukpt.MACPadding1, dukpt.MACPadding2, dukpt.MACPadding3} {
				for length := range 26 {
					s, msg := dukpt.MACSpec{Algorithm: dukpt.MACRetail, Key: w, Padding: p, Length: 4 + length%5}, bytes.Repeat([]byte{0xA5}, length)
					got, err := in.MACResponse(nil, s, msg)
					want, wantErr := host.MACResponse(nil, s, msg)
					if !bytes.Equal(got, want) || !alike(err, wantErr) {
						t.Fatalf("%v %+v, %d bytes: got %X, %v; want %X, %v", ksn, s, length, got, err, want, wantErr)
					}
					if err != nil {
						continue // 3TDEA is stronger than an AES-128 key may give, for one
					}
					compared++
					s.Direction = dukpt.Both
					sum, err := host.MACResponse(nil, s, msg)
					if err != nil {
						t.Fatal(err)
					}
					if err := in.VerifyMAC(s, msg, sum); err != nil {
						t.Errorf("%v %+v, %d bytes: %v", ksn, s, length, err)
					}
					sum[0] ^= 1
					if err := in.VerifyMAC(s, msg, sum); !errors.Is(err, dukpt.ErrVerify) {
						t.Errorf("%v %+v, %d bytes, altered: %v", ksn, s, length, err)
					}
				}
			}
		}
		in.End()
		host.End()
	}
	if _, objects, _ := (*faults).live(); objects != token.Stats().CachedKeys || compared < 3*3*26 {
		t.Errorf("%d objects, %d cached, %d MACs compared", objects, token.Stats().CachedKeys, compared)
	}
	t.Logf("%d MACs", compared)
}

// TestRetailChain compares the chain over two ciphers with the retail MAC of software, under keys of two parts and of three.
func TestRetailChain(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24} {
		key := unhex("0123456789ABCDEFFEDCBA987654321089ABCDEF01234567")[:size]
		for _, p := range []dukpt.MACPadding{dukpt.MACPadding1, dukpt.MACPadding2, dukpt.MACPadding3} {
			for length := range 40 {
				msg := bytes.Repeat([]byte{0x5A}, length)
				d := &plainDES{single: append(bytes.Clone(key[:8]), key[:8]...), triple: key}
				got, err := retailMAC(&block{device: d, key: 1, size: 8}, &block{device: d, key: 2, size: 8}, dukpt.MACSpec{Padding: p}, msg)
				want := must(mac.Retail(nil, key, msg, mac.Padding(p)))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes of key, %v, %d bytes: got %X, %v, want %X", size, p, length, got, err, want)
				}
				d.fails = 1 + length%2
				got, err = retailMAC(&block{device: d, key: 1, size: 8}, &block{device: d, key: 2, size: 8}, dukpt.MACSpec{Padding: p}, msg)
				if d.asked != (err != nil) || d.asked && got != nil || !d.asked && d.fails == 2 {
					t.Fatalf("key %d fails, asked %v: %X, %v", d.fails, d.asked, got, err)
				}
			}
		}
	}
}

// plainDES is a token with two keys, of which one may fail.
type plainDES struct {
	cryptoki
	single, triple []byte
	fails          int
	asked          bool // the one that fails
}

func (d *plainDES) encrypt(_ session, _ mechanism, key object, in []byte) ([]byte, error) {
	if d.fails == int(key) {
		d.asked = true
		return nil, rvFailed
	}
	c, err := des.New(map[object][]byte{1: d.single, 2: d.triple}[key])
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	c.Encrypt(out, in)
	return out, nil
}
