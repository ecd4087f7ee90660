package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/internal/strictjson"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Options are what the endpoints need. All are required.
type Options struct {
	Service *decrypt.Service
	// Caller says who sends a request, by its certificate. With an error it says as much as it knows.
	Caller func(*http.Request) (decrypt.Caller, error)
	// Count is told of each call: what was asked, such as "decrypt-data", and the counter status or the code of a refusal.
	Count func(action, result string)
	// MaxBody is the most bytes that a request may have; 0: serve.MaxBody.
	MaxBody int
}

// Route is one endpoint: a POST to a path of http.ServeMux.
type Route struct {
	Path    string
	Handler http.Handler
}

// Routes returns the endpoints. A key in a path is one segment, or two when an alias comes with its slash.
func Routes(o Options) []Route {
	f := face{o}
	var out []Route
	add := func(path, action string, op operation) { out = append(out, Route{path, f.handler(action, op)}) }
	for _, key := range []string{"{KeyIdentifier}", "alias/{AliasName}"} {
		add("/keys/"+key+"/decrypt", "decrypt-data", f.decryptData)
		add("/keys/"+key+"/encrypt", "encrypt-data", f.encryptData)
		add("/keys/"+key+"/reencrypt", "re-encrypt-data", f.reEncryptData)
	}
	add("/pindata/translate", "translate-pin", f.translatePinData)
	add("/mac/generate", "generate-mac", f.generateMac)
	add("/mac/verify", "verify-mac", f.verifyMac)
	return out
}

// face answers requests.
type face struct{ Options }

// operation is the work on one request with its body.
type operation func(ctx context.Context, caller decrypt.Caller, r *http.Request, body []byte) (*decrypt.CallResult, func(out *output, b hexBytes), error)

// handler gives an operation its caller and its body, and writes what it comes to. A refusal of what never was a request to the
// service is recorded here.
func (f face) handler(action string, op operation) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		caller, err := f.Caller(r)
		if err != nil {
			return f.refuse(w, r, action, f.Service.Refuse(r.Context(), caller, action, err))
		}
		if err := f.Service.Admit(r.Context(), caller, action, 1); err != nil {
			return f.refuse(w, r, action, err)
		}
		body, err := serve.ReadBody(w, r, serve.TypeJSON, cmp.Or(f.MaxBody, serve.MaxBody))
		if err != nil {
			return f.refuse(w, r, action, err)
		}
		defer secret.Wipe(body)
		if err := f.Service.Enter(r.Context()); err != nil {
			return f.refuse(w, r, action, err)
		}
		defer f.Service.Leave()
		res, place, err := op(r.Context(), caller, r, body)
		if early, ok := errors.AsType[*unread](err); ok {
			err = early.err
			if refused := f.Service.Refuse(r.Context(), caller, action, err); refusalOf(refused).Unavailable() {
				err = refused
			}
		}
		if err != nil {
			return f.refuse(w, r, action, err)
		}
		defer res.Wipe()
		return f.answer(w, r, action, res, place)
	})
}

// unread is an error that ended a request before the service had it.
type unread struct{ err error }

// Error returns the text of the error.
func (u *unread) Error() string { return u.err.Error() }

func (f face) refuse(w http.ResponseWriter, r *http.Request, action string, err error) error {
	code := throw(w, err)
	f.Count(action, string(code))
	serve.Note(r.Context(), slog.String("code", string(code)))
	if code == decrypt.CodeInternal {
		serve.Note(r.Context(), slog.String("error", err.Error()))
	}
	return nil
}

func (f face) answer(w http.ResponseWriter, r *http.Request, action string, res *decrypt.CallResult, place func(*output, hexBytes)) error {
	out := output{
		KeyArn: ARNPrefix + "key/" + res.Key.ID.String(), KeyCheckValue: res.Key.KCV.String(), CounterStatus: res.Status.String(),
		CounterAuthenticated: res.Authenticated, Labels: labels{
			KeyMode: res.Labels.KeyMode.String(), PINExposure: res.Labels.PINExposure.String(), Environment: res.Labels.Environment.String(),
		},
	}
	if place != nil {
		place(&out, res.Output.Expose())
	}
	body, err := json.Marshal(out, json.Deterministic(true))
	if err != nil {
		return f.refuse(w, r, action, fmt.Errorf("aws: %w", err))
	}
	defer secret.Wipe(body)
	f.Count(action, out.CounterStatus)
	serve.Note(r.Context(), slog.String("counter", out.CounterStatus))
	serve.WriteJSON(w, http.StatusOK, body)
	return nil
}

// read reads a body. Errors are refusals that quote no value.
func read(body []byte, v any) error {
	err := strictjson.Read(body, serve.MaxBody, false, v)
	switch {
	case errors.Is(err, strictjson.ErrTooLarge):
		return &decrypt.Refusal{Code: decrypt.CodeBodyTooLarge, Detail: err.Error()}
	case err != nil:
		return &decrypt.Refusal{Code: decrypt.CodeRequestMalformed, Detail: err.Error()}
	}
	return nil
}

// pathKey is the key that the path names.
func pathKey(r *http.Request) (keyset.KeyRef, error) {
	if name := r.PathValue("AliasName"); name != "" {
		return parseKey("KeyIdentifier", "alias/"+name)
	}
	return parseKey("KeyIdentifier", r.PathValue("KeyIdentifier"))
}
