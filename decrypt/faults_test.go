package decrypt_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/message"
)

// faultyStore fails in one method.
type faultyStore struct {
	decrypt.Store
	method string
	err    error
}

func (f *faultyStore) fault(method string) error {
	if f.method == method {
		return f.err
	}
	return nil
}

func (f *faultyStore) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	if err := f.fault("Claim"); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	return f.Store.Claim(ctx, set)
}

func (f *faultyStore) RecordAnswer(ctx context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	if err := f.fault("RecordAnswer"); err != nil {
		return decrypt.Answer{}, err
	}
	return f.Store.RecordAnswer(ctx, a)
}

func (f *faultyStore) Audit(ctx context.Context, r audit.Record) error {
	if err := f.fault("Audit"); err != nil {
		return err
	}
	return f.Store.Audit(ctx, r)
}

// TestFailClosed is the rule that nothing is answered, not even a refusal, while the store cannot record it.
func TestFailClosed(t *testing.T) {
	t.Parallel()
	causes := map[string]error{
		"plain":  errors.New("disk on fire at /var/lib/4761739001010119"),
		"ctx":    context.DeadlineExceeded,
		"refuse": &decrypt.Refusal{Code: decrypt.CodeStoreUnavailable},
	}
	calls := map[string]func(*laboratory, decrypt.Store) (any, error){
		"Claim": func(l *laboratory, s decrypt.Store) (any, error) {
			return notNil(l.with(s).Transaction(context.Background(), l.caller, decrypt.TransactionRequest{Message: l.sign(l.sale(1, 1), 1), OutgoingPINKey: l.zone()}))
		},
		"Audit": func(l *laboratory, s decrypt.Store) (any, error) { // of a refusal
			raw := l.sign(l.sale(1, 1), 1)
			raw[len(raw)-1] ^= 1
			return notNil(l.with(s).Transaction(context.Background(), l.caller, decrypt.TransactionRequest{Message: raw, OutgoingPINKey: l.zone()}))
		},
		"RecordAnswer": func(l *laboratory, s decrypt.Store) (any, error) {
			res := l.accept(l.sign(l.sale(1, 1), 1))
			return notNil(l.with(s).Answer(context.Background(), l.caller, decrypt.AnswerRequest{Digest: res.Digest, Result: message.Approved}))
		},
	}
	for method, call := range calls {
		for name, cause := range causes {
			t.Run(method+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := newLaboratory(t, dukpt.TDES)
				got, err := call(l, &faultyStore{Store: l.store, method: method, err: cause})
				if got != nil || codeOf(err) != decrypt.CodeStoreUnavailable {
					t.Fatalf("got %v, %v; want %s and nothing else", got, err, decrypt.CodeStoreUnavailable)
				}
				if r, _ := errors.AsType[*decrypt.Refusal](err); !r.Unavailable() || strings.Contains(err.Error(), testPAN) {
					t.Errorf("refusal %v", err)
				}
			})
		}
	}
}

// notNil makes a nil pointer a nil any.
func notNil[T any](v *T, err error) (any, error) {
	if v == nil {
		return nil, err
	}
	return v, err
}

// with is the service of the laboratory over another store, with the registry of the laboratory if it has one.
func (l *laboratory) with(s decrypt.Store) *decrypt.Service { return l.made(s, l.books) }

// over is the service of the laboratory over another catalog.
func (l *laboratory) over(c decrypt.Catalog) *decrypt.Service { return l.made(l.store, c) }

func (l *laboratory) made(s decrypt.Store, c decrypt.Catalog) *decrypt.Service {
	l.tb.Helper()
	return must[*decrypt.Service](l.tb)(decrypt.New(decrypt.Config{
		Engine: l.engine, Store: s, Catalog: c, Registry: l.registry, Secrets: l.ring, Clock: l.clock.Now, Instance: "TEST-1",
		Logger: slog.New(slog.NewJSONHandler(l.log, nil)), Offline: l.offline,
	}))
}

func TestAServiceNeedsEverything(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	full := decrypt.Config{
		Engine: l.engine, Store: l.store, Catalog: l.books, Secrets: l.ring, Clock: time.Now, Instance: "I", Logger: slog.Default(),
	}
	for name, drop := range map[string]func(*decrypt.Config){
		"engine": func(c *decrypt.Config) { c.Engine = nil }, "store": func(c *decrypt.Config) { c.Store = nil },
		"catalog": func(c *decrypt.Config) { c.Catalog = nil }, "secrets": func(c *decrypt.Config) { c.Secrets = nil },
		"clock": func(c *decrypt.Config) { c.Clock = nil }, "instance": func(c *decrypt.Config) { c.Instance = "" },
		"logger": func(c *decrypt.Config) { c.Logger = nil },
	} {
		c := full
		drop(&c)
		if _, err := decrypt.New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	wrong := full
	wrong.Offline = &message.Limits{Count: 1}
	if _, err := decrypt.New(wrong); !errors.Is(err, message.ErrMessage) {
		t.Errorf("limits without a currency: %v", err)
	}
	if s := must[*decrypt.Service](t)(decrypt.New(full)); s.Check(t.Context()) != nil {
		t.Error("a whole service is not ready")
	}
}

// TestNoSecretIsPrinted prints results, requests and the log of a sale under every verb.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	res := l.accept(l.sign(l.sale(1, 1), 1))
	bad := l.sale(2, 1)
	bad.Fields[1].Ciphertext[0] ^= 1
	_, refusal := l.send(l.sign(bad, 2))
	var out strings.Builder
	for _, v := range []any{*res, res, res.Fields, l.caller, refusal, l.service} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "result", res, "fields", res.Fields, "refusal", refusal)
	out.WriteString(l.log.String())
	for name, clear := range map[string]string{"PAN": testPAN, "track": testTrack, "zone key": string(zoneKey)} {
		for _, form := range []string{clear, hex.EncodeToString([]byte(clear)), base64.StdEncoding.EncodeToString([]byte(clear)), fmt.Sprint([]byte(clear))} {
			if strings.Contains(strings.ToLower(out.String()), strings.ToLower(strings.Trim(form, "[]="))) {
				t.Errorf("the %s is printed as %q", name, form)
			}
		}
	}
	if res.Wipe(); res.Fields[0].Clear.Len() != 0 {
		t.Error("a wiped result still holds card data")
	}
}
