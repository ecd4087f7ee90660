// Package acquirer is an acquirer's host in as few lines as it takes: what a customer's own host looks like.
//
// Terminals post messages over mutual TLS. For each one the host asks the decryption service what it says, books it in a
// [Ledger], decides, has the decision recorded, and returns the acknowledgement that the service MACs for the terminal.
// It holds no terminal key, sees no PIN, and reads the card number masked.
//
// Four rules are worth copying. Who the terminal is comes from its certificate and must be who the message says. Whether it
// may still connect is asked of the registry feed all the time and not only when it connects. The ledger is keyed by the
// number that the terminal gave the sale, so that a message that comes again, in whatever wrapping, finds its first entry.
// The entry is durable before the answer is recorded, and the recorded answer is the one that counts.
package acquirer

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const contentType = "application/cbor"

// Host answers terminals. Service and Ledger are required. It is safe for concurrent use.
type Host struct {
	Service   *api.Client      // the decryption service
	Ledger    *Ledger          // where every sale is booked once
	PINKey    string           // zone key for PINs; empty: the only one that the key set allows
	PINFormat string           // of outgoing PIN blocks; empty: that of the terminal
	Approve   func(Entry) bool // decides on a new sale; nil approves everything
	Log       *slog.Logger     // nil: slog.Default
}

// Caller returns the TLS configuration for calls to the decryption service.
func Caller(cert *tlsconf.Credential, trust tlsconf.Trust) (*tls.Config, error) {
	return tlsconf.Client(tlsconf.ClientOptions{
		Credential: cert, Trust: trust, ServerRole: identity.Decrypt, Gate: tlsconf.OpenGate(),
	})
}

// Handler serves POST /messages.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /messages", func(w http.ResponseWriter, r *http.Request) {
		ack, err := h.message(r)
		if err != nil {
			h.refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(ack) // a terminal that has gone away asks again
	})
	return mux
}

// message turns a terminal's message into the acknowledgement for it.
func (h *Host) message(r *http.Request) ([]byte, error) {
	if r.TLS == nil {
		return nil, &refusal{http.StatusForbidden, "NoCertificate", "terminals connect over mutual TLS"}
	}
	peer, serial, err := tlsconf.Peer(*r.TLS)
	if err != nil {
		return nil, &refusal{http.StatusForbidden, "NoCertificate", "the certificate names no terminal"}
	}
	if r.Header.Get("Content-Type") != contentType {
		return nil, &refusal{http.StatusUnsupportedMediaType, "ContentType", "messages are " + contentType}
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, api.MaxMessage+1))
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, "Body", "the message did not arrive whole"}
	}
	if len(raw) > api.MaxMessage {
		return nil, &refusal{http.StatusRequestEntityTooLarge, "TooLarge", "the message is too large"}
	}
	tx, err := h.Service.Transaction(r.Context(), api.TransactionRequest{
		Message: raw, OutgoingPINKey: h.PINKey, OutgoingPINFormat: h.PINFormat,
	})
	if err != nil {
		return nil, err
	}
	if tx.Tenant != peer.Tenant || tx.Terminal != peer.Name {
		return nil, &refusal{http.StatusForbidden, "WrongTerminal", "the message is of another terminal than the certificate"}
	}
	h.log().Info("message", "terminal", peer.Name, "serial", serial, "type", tx.Type, "sequence", tx.Sequence,
		"status", tx.CounterStatus, "code", tx.Code, "digest", tx.RequestDigest)
	if tx.Ack != nil { // sign-in, HELD, a refusal: the service has decided
		return tx.Ack, nil
	}
	return h.decide(r, tx)
}

// decide books a message and has the decision recorded. It may run twice for one message, at one host or at two: the
// ledger keeps the first entry, the service the first answer.
func (h *Host) decide(r *http.Request, tx *api.TransactionResponse) ([]byte, error) {
	e := entryOf(tx)
	e.Result = api.Approved
	if tx.RecordedResult != nil {
		e.Result = tx.RecordedResult.Result
	} else if h.Approve != nil && e.Type == "sale" && !h.Approve(e) {
		e.Result = api.Declined
	}
	booked, err := h.Ledger.Book(e)
	if err != nil {
		return nil, err
	}
	if tx.RecordedResult != nil && tx.RecordedResult.Ack != nil {
		return tx.RecordedResult.Ack, nil
	}
	done, err := h.Service.Answer(r.Context(), api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: booked.Result})
	if err != nil {
		return nil, err
	}
	return done.Ack, nil
}

func (h *Host) log() *slog.Logger {
	if h.Log != nil {
		return h.Log
	}
	return slog.Default()
}

// refusal is an answer without a MAC: it tells a person what is wrong and obliges the terminal to nothing.
type refusal struct {
	status        int
	Code, Message string
}

// Error returns what the terminal is told.
func (r *refusal) Error() string { return r.Code + ": " + r.Message }

// refuse passes on what the service refuses; everything else is this host's trouble and worth another try.
func (h *Host) refuse(w http.ResponseWriter, err error) {
	out := &refusal{http.StatusServiceUnavailable, "Unavailable", "try again"}
	if own, ok := errors.AsType[*refusal](err); ok {
		out = own
	} else if e, ok := errors.AsType[*api.Error](err); ok && e.Code != "" {
		out = &refusal{e.Status, e.Code, e.Message}
	}
	h.log().Warn("refused", "status", out.status, "code", out.Code, "error", err)
	body, err := json.Marshal(out)
	if err != nil {
		http.Error(w, out.Code, out.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if out.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(body) // a terminal that has gone away asks again
}
