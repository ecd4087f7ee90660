package decrypt

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	nodetoken "github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// TestSalesCarried makes a sale of each scheme on a token that derives and carries: the PIN of the AES terminal is in no host
// memory, and every place that has a label says so; that of the TDES terminal is, and says so too.
func TestSalesCarried(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	it, _ := hsmtest.Porter(t)
	p, c := configOver(t, it, hsm.Options{CarryPINs: true}, tokenKeys...)
	c.HSM.CarryPINs = true
	r := start(t, p.place, c)
	zone := tokenKeys[3]
	for _, till := range []struct {
		name     string
		place    *rogue.Terminal
		exposure string
	}{
		{"alias/zone-1", must[*rogue.Terminal](t)(rogue.New(p.bundle)), "host-memory"},
		{zone.name, must[*rogue.Terminal](t)(rogue.New(p.aes)), "none"},
	} {
		r.card = till.place
		tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 1234)}))
		block := tx.Fields[1]
		if block.PINKey != till.name || block.Labels.PINExposure != till.exposure {
			t.Errorf("PIN field %+v, want %s", block, till.exposure)
		}
		if till.exposure != "none" {
			continue
		}
		under := must[cipher.Block](t)(aes.NewCipher(zone.material))
		pan, fill := must[pin.PAN](t)(pin.ParsePAN(testPAN)), pin.Fill{1}
		opened, err := pin.DecryptFormat4(under, must[[]byte](t)(hex.DecodeString(string(block.PINBlock))), pan)
		if err != nil {
			t.Fatalf("what was carried does not open: %v", err)
		}
		got := must[[]byte](t)(opened.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: under}, fill))
		if want := must[[]byte](t)(pin.EncryptFormat4(nil, under, must[pin.PIN](t)(pin.ParsePIN([]byte(testPIN))), pan, fill)); !bytes.Equal(got, want) {
			t.Errorf("what was carried is a block of another PIN")
		}
	}
	exposures := map[string]int{}
	for _, rec := range nodetest.Records(t, c.Database) {
		exposures[rec.Labels.PINExposure]++
	}
	if exposures["none"] == 0 || exposures["host-memory"] == 0 {
		t.Errorf("exposures in the audit log: %v", exposures)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_key_set_info{environment="test",key_mode="token",key_set="AES-PINS",pin_exposure="none",state="active"} 1`,
		`latchkey_key_set_info{environment="test",key_mode="bdk-in-token",key_set="PINS",pin_exposure="host-memory",state="active"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if log := r.log.String(); !strings.Contains(log, `"pin_exposure":"none"`) {
		t.Errorf("log %s", log)
	}
}

// TestCarryRefusesStart starts no service whose PINs would pass through host memory, or nowhere, though it shall carry them.
func TestCarryRefusesStart(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	quiet := slog.New(slog.DiscardHandler)
	_, plain := tokenConfig(t, tokenKeys...)
	it, _ := hsmtest.Porter(t)
	_, old := configOver(t, it, hsm.Options{}, tokenKeys...) // its zone keys do not wrap
	for want, c := range map[string]Config{"block-unwrap: pkcs11: CKR_MECHANISM_INVALID": plain, "alias/zone-1 may not wrap": old} {
		if err := Check(t.Context(), c, quiet); err != nil {
			t.Fatal(err)
		}
		c.HSM.CarryPINs = true
		if err := Check(t.Context(), c, quiet); !errors.Is(err, hsm.ErrCarry) || !strings.Contains(err.Error(), "hsm: carry-pins") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestHangEndsTheService has a derivation not return while the service runs. Others are refused in the meantime, and the service
// ends with an error, for its supervisor.
func TestHangEndsTheService(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	it, hang := hsmtest.Porter(t)
	p, c := configOver(t, it, hsm.Options{}, tokenKeys...)
	opened, ended := make(chan Addrs, 1), make(chan error, 1)
	go func() { ended <- Run(t.Context(), c, slog.New(slog.DiscardHandler), func(a Addrs) { opened <- a }) }()
	r := &running{tb: t, place: p.place, addrs: <-opened, card: must[*rogue.Terminal](t)(rogue.New(p.aes))}
	must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 1234)}))
	if err := os.WriteFile(hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused, client := make(chan error, 6), r.api()
	for n := range uint32(cap(refused)) {
		sale := r.sale(2+n, 1)
		go func() {
			_, err := client.Transaction(t.Context(), api.TransactionRequest{Message: sale})
			refused <- err
		}()
	}
	if err := <-refused; !api.IsCode(err, string(decrypt.CodeEngineUnavailable)) { // of those behind the one that hangs
		t.Errorf("beside a call that hangs: %v", err)
	}
	if err := <-ended; !errors.Is(err, nodetoken.ErrStuck) {
		t.Errorf("the service ends with %v", err)
	}
	if err := os.Remove(hang); err != nil {
		t.Error(err)
	}
}

// TestCheckpointsFromAToken has the audit checkpoints signed by a key in the token, after a key in a file signed the first ones:
// the log verifies under both.
func TestCheckpointsFromAToken(t *testing.T) {
	t.Parallel()
	p, c := tokenConfig(t, tokenKeys...)
	sell := func(ordinal uint32) {
		t.Helper()
		r := start(t, p.place, c)
		must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(ordinal, 1)}))
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	sell(1)
	u := must[hsm.URI](t)(hsm.ParseURI(c.HSM.URI))
	token := must[*hsm.Token](t)(hsm.Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), hsm.Options{}))
	defer token.Close()
	signer := must[crypto.Signer](t)(token.GenerateEd25519(t.Context(), "audit"))
	must[crypto.Signer](t)(token.GenerateSigner(t.Context(), "ecdsa", elliptic.P256()))
	_, verifier, err := audit.NewSignerOf(deploy.CheckpointName("ACME", "decryptd"), signer)
	if err != nil {
		t.Fatal(err)
	}
	before := string(must[[]byte](t)(os.ReadFile(filepath.Join(p.dir, "audit", "checkpoint.pub"))))
	c.CheckpointKey = "pkcs11:object=audit"
	sell(2)
	log := must[*sqlite.AuditLog](t)(sqlite.OpenAudit(c.Database))
	defer log.Close()
	both := must[*audit.Verifier](t)(audit.NewVerifier(before + verifier + "\n"))
	kept := must[[]byte](t)(os.ReadFile(c.CheckpointFile))
	if r, err := audit.Verify(t.Context(), log, both, kept); err != nil || r.Signed != r.Size || r.Checkpoints < 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := must[*audit.Verifier](t)(audit.NewVerifier(verifier)).Open(kept); err != nil {
		t.Errorf("the latest checkpoint was not signed in the token: %v", err)
	}
	for member, want := range map[string]string{"pkcs11:object=ecdsa": "Ed25519", "pkcs11:object=nobody": "no such key"} {
		c.CheckpointKey = member
		if err := Check(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "checkpoint-key") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", member, err)
		}
	}
}
