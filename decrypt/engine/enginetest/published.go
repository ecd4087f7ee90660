package enginetest

import (
	"bytes"
	"crypto/aes"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/pin"
)

const publishedData = "4012345678909D987"

// publishedTDES compares with the samples of ANSI X9.24-1:2009 Annex A.4 and, for response data, of moov-io/dukpt.
func publishedTDES(t *testing.T, b *bench) {
	ops := b.begin(t, "bdk/tdes", ksn(t, "FFFF9876543210E00001"))
	mac := dukpt.MACSpec{Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding1, Length: 8}
	if err := ops.VerifyMAC(mac, []byte(publishedData), unhex(t, "9CCC78173FC4FB64")); err != nil {
		t.Errorf("request MAC: %v", err)
	}
	response(t, ops, mac, "20364223C1FF00FA")
	s := dukpt.TDES.DefaultData()
	decrypts(t, ops, s, "FC0D53B7EA1FDA9EE68AAF2E70D9B9506229BE2AA993F04F", 24)
	s.Direction = dukpt.Response
	encrypts(t, ops, s, "1FCC89AF66222F27B903898BB2BC8589CDBFDE5EC6AFCC25", 24)

	pan := newPAN(t, "4012345678909")
	got, err := ops.TranslatePIN(nil,
		dukpt.PINBlock{Format: pin.Format0, PAN: pan, Block: unhex(t, "1B9C1845EB993A7A")},
		engine.PINOut{Format: pin.Format0, PAN: pan, Key: b.refs["zone/tdes"]})
	if err != nil {
		t.Fatalf("PIN block: %v", err)
	}
	c, err := des.New(unhex(t, tdesZone))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8)
	c.Encrypt(want, unhex(t, "041274EDCBA9876F")) // the published clear block
	if !bytes.Equal(got, want) {
		t.Errorf("PIN block under the zone key: got %X, want %X", got, want)
	}
}

// publishedAES compares with the samples of the ANSI X9.24-3:2017 supplement and, for data and MACs, of moov-io/dukpt.
func publishedAES(t *testing.T, b *bench) {
	ops := b.begin(t, "bdk/aes", ksn(t, "123456789012345600000001"))
	mac := dukpt.MACSpec{Algorithm: dukpt.MACCMAC, Key: dukpt.KeyAES128, Length: 16}
	if err := ops.VerifyMAC(mac, []byte(publishedData), unhex(t, "A2EB5C1C35809E58404E873C3C411E31")); err != nil {
		t.Errorf("request MAC: %v", err)
	}
	response(t, ops, mac, "DD4E1895FD9BF53D8DAF25568ABF551D")
	s := dukpt.AES.DefaultData()
	decrypts(t, ops, s, "E5AFA5B408A3310E3D779C8A9A2AE29448BD5B4232582090DB703AF647205A79", 32)
	s.Direction = dukpt.Response
	encrypts(t, ops, s, "84904DFC6B5201A4F1FE2EAA49E70B8C01838EF53030790FF785D630AB3916B4", 32)

	pan := newPAN(t, "4111111111111111")
	fill := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	got, err := ops.TranslatePIN(nil,
		dukpt.PINBlock{Format: pin.Format4, PAN: pan, Block: unhex(t, "A912150391AB65A67E52883D81CE2D15")},
		engine.PINOut{Format: pin.Format4, PAN: pan, Key: b.refs["zone/aes"], Fill: fill})
	if err != nil {
		t.Fatalf("PIN block: %v", err)
	}
	if b.Blind {
		if p, err := b.openZone(t, "zone/aes", got, pan); err != nil || !samePIN(t, p, "1234", pan) {
			t.Errorf("PIN block under the zone key: %X, %v", got, err)
		}
		return
	}
	c, err := aes.NewCipher(unhex(t, aesZone))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pin.EncryptFormat4(nil, c, newPIN(t, "1234"), pan, fill)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("PIN block under the zone key: got %X, want %X", got, want)
	}
}

func padded(n int) []byte {
	out := make([]byte, n)
	copy(out, publishedData)
	return out
}

func decrypts(t *testing.T, ops engine.HostOps, s dukpt.DataSpec, ciphertext string, n int) {
	t.Helper()
	got, err := ops.DecryptData(nil, s, unhex(t, ciphertext))
	if err != nil || !bytes.Equal(got, padded(n)) {
		t.Errorf("request data: got %X, %v; want %X", got, err, padded(n))
	}
}

func encrypts(t *testing.T, ops engine.HostOps, s dukpt.DataSpec, ciphertext string, n int) {
	t.Helper()
	got, err := ops.EncryptResponse(nil, s, padded(n))
	if err != nil || !bytes.Equal(got, unhex(t, ciphertext)) {
		t.Errorf("response data: got %X, %v; want %s", got, err, ciphertext)
	}
}

func response(t *testing.T, ops engine.HostOps, s dukpt.MACSpec, mac string) {
	t.Helper()
	got, err := ops.MACResponse(nil, s, []byte(publishedData))
	if err != nil || !bytes.Equal(got, unhex(t, mac)) {
		t.Errorf("response MAC: got %X, %v; want %s", got, err, mac)
	}
}
