package hsm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := hsmURI(t)
	text := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	module := "?module-path=" + good.Module()
	for name, tt := range map[string]struct {
		ctx  context.Context
		uri  string
		pin  string
		o    Options
		want error
	}{
		"no module":        {t.Context(), "pkcs11:token=a", hsmtest.PIN, Options{}, ErrURI},
		"missing module":   {t.Context(), "pkcs11:token=a?module-path=/nowhere/p11.so", hsmtest.PIN, Options{}, ErrModule},
		"text as a module": {t.Context(), "pkcs11:token=a?module-path=" + text, hsmtest.PIN, Options{}, ErrModule},
		"wrong token":      {t.Context(), "pkcs11:token=nobody" + module, hsmtest.PIN, Options{}, ErrNoToken},
		"any token":        {t.Context(), "pkcs11:manufacturer=SoftHSM%20project" + module, hsmtest.PIN, Options{}, ErrAmbiguous},
		"no PIN":           {t.Context(), good.String(), "", Options{}, ErrPIN},
		"wrong PIN":        {t.Context(), good.String(), "00000000", Options{}, ErrPIN},
		"short PIN":        {t.Context(), good.String(), "1", Options{}, ErrPIN},
		"options":          {t.Context(), good.String(), hsmtest.PIN, Options{Sessions: -1}, nil},
		"cancelled":        {cancelled, good.String(), hsmtest.PIN, Options{}, context.Canceled},
	} {
		u, err := ParseURI(tt.uri)
		if err != nil {
			t.Fatal(err)
		}
		token, err := Open(tt.ctx, u, secret.From([]byte(tt.pin)), tt.o)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if token != nil {
			t.Errorf("%s: a token beside the error", name)
		}
		if err != nil && strings.Contains(err.Error(), hsmtest.PIN) {
			t.Errorf("%s: the PIN stands in %v", name, err)
		}
	}
	openAgain(t, good, Options{}) // a wrong PIN did no harm
}

// TestOpenFails has every call fail while a token is opened: an error comes back, and no session is left.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	put(t, openAgain(t, u, Options{}), keys.TDES2)
	for _, call := range []string{"openSession", "login", "findObjects", "attributes"} {
		for _, cause := range []error{rvDeviceError, rvFailed, rvSessionHandle} {
			if call == "attributes" && cause == rvFailed {
				continue // the probe takes it for what the token cannot do
			}
			o, faults := withFaults(Options{}, func(f *faulty) { f.fail(call, cause) })
			token, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), o)
			if !errors.Is(err, cause) || token != nil || errors.Is(err, engine.ErrUnavailable) != (cause != rvFailed) {
				t.Errorf("%s fails with %v: got %v", call, cause, err)
			}
			if sessions, _, _ := (*faults).live(); sessions != 0 {
				t.Errorf("%s fails with %v: %d sessions are left", call, cause, sessions)
			}
			if n := (*faults).count("login"); n > 1 {
				t.Errorf("%s fails with %v: %d logins", call, cause, n)
			}
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{}, nil)
	token := open(t, o)
	base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
	for range 3 {
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if sessions, objects, _ := (*faults).live(); sessions != 0 || objects != 0 {
		t.Errorf("%d sessions and %d objects are left", sessions, objects)
	}
	if err := s.verify(t, token.Engine(), base); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := token.Probe(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Probe after Close: %v", err)
	}
	if _, err := token.Keys(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Keys after Close: %v", err)
	}
	if stats := token.Stats(); stats.Connected || stats.CachedKeys != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	for range 2 { // with the module in use, and perhaps not
		all, err := Tokens(t.Context(), u.Module())
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, info := range all {
			if info.URI().Module() != u.Module() || info.URI().PINSource() != "" {
				t.Errorf("URI %s", info.URI())
			}
			again, err := ParseURI(info.URI().String())
			if err != nil || again != info.URI() {
				t.Errorf("%s reads as %v, %v", info.URI(), again, err)
			}
			if strings.Contains(u.String(), "token="+info.Label+"?") {
				found++
				openAgain(t, info.URI(), Options{})
			}
		}
		if found != 1 {
			t.Errorf("the token is listed %d times", found)
		}
	}
	if _, err := Tokens(t.Context(), "/nowhere"); !errors.Is(err, ErrModule) {
		t.Errorf("of no module: %v", err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	token := open(t, Options{})
	put(t, token, keys.AES128)
	put(t, token, keys.TDES2)
	r, err := token.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cannot := map[string]bool{CheckBlockWrap: true, CheckBlockDES3: true, CheckShortHMAC: true, CheckRetail: true}
	for _, c := range r.Checks {
		if c.OK == cannot[c.Name] || c.OK != (c.Why == "") || c.OK != r.OK(c.Name) {
			t.Errorf("%+v", c)
		}
	}
	if len(r.Checks) != 18 || r.OK("") || len(r.Keys) != 2 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []engine.KeyMode{engine.Token, engine.BDKInToken} {
		if k := r.Keys[i]; k.KeyMode != want || k.PINExposure != engine.HostMemory || k.Why == "" {
			t.Errorf("%+v, want %v", k, want)
		}
	}
	empty := hsmURI(t)
	for _, lack := range []struct {
		code   uint
		checks []string
	}{
		{mechAESDerive, []string{CheckDerive, CheckDeriveDES2, CheckDeriveDES3}}, {mechAESCMAC, []string{CheckAESCMAC}},
		{mechDES3ECB, []string{CheckDES3ECB, CheckDeriveDES2, CheckDeriveDES3}}, {mechSHA256HMAC, []string{CheckHMAC}},
		{mechEdDSA, []string{CheckEd25519}}, {mechEdKeyPair, []string{CheckEd25519}},
	} {
		o, _ := withFaults(Options{}, func(f *faulty) { f.lacks[lack.code] = true })
		r, err := openAgain(t, empty, o).Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range lack.checks {
			if r.OK(name) {
				t.Errorf("without 0x%X: %s passes", lack.code, name)
			}
		}
	}
}
