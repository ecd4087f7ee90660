package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
)

// element is the token whose key guards the folder, when --sealer names one.
type element struct {
	uri, pinFile string

	stuck chan struct{} // closed when the module does not return from a call; nil: nobody waits for that
	token *hsm.Token    // once it is open
	key   *hsm.Sealer
	keys  terminal.Keys // nil: private keys are sealed with the rest
}

const sealerForm = "as in: --sealer 'pkcs11:token=NAME;object=storage?module-path=/usr/lib/softhsm/libsofthsm2.so'"

// sealer returns what guards the folder: the insecure file in it, or a key in a token. It makes the key where that is wanted.
func (a *app) sealer(medium terminal.FS, create bool) (terminal.Sealer, error) {
	if a.element.uri == "" {
		if create {
			return terminal.CreateInsecureFile(medium)
		}
		return terminal.OpenInsecureFile(medium)
	}
	s, err := a.tokenSealer(create)
	return s, explainToken(err)
}

func (a *app) tokenSealer(create bool) (terminal.Sealer, error) {
	e := &a.element
	if e.key != nil {
		return tokenSealer{e.key}, nil
	}
	u, err := hsm.ParseURI(e.uri)
	if err != nil {
		return nil, err
	}
	if !hsm.Built { // before anybody is asked for a PIN
		return nil, hsm.ErrNoBridge
	}
	if e.token == nil {
		pin, err := a.tokenPIN(u)
		if err != nil {
			return nil, err
		}
		defer pin.Wipe()
		if e.token, err = hsm.Open(context.Background(), u, pin, hsm.Options{Stuck: e.abandon}); err != nil { // its own Patience bounds it
			return nil, err
		}
	}
	if create {
		e.key, err = e.token.CreateSealer(context.Background(), u)
	} else {
		e.key, err = e.token.OpenSealer(context.Background(), u)
	}
	if err != nil {
		return nil, err
	}
	return tokenSealer{e.key}, a.findKeys(u)
}

// findKeys has private keys made in the token, where a known answer shows that it signs and agrees.
func (a *app) findKeys(u hsm.URI) error {
	e := &a.element
	report, err := e.token.Probe(context.Background())
	if err != nil {
		return err
	}
	if !report.OK(hsm.CheckSign) || !report.OK(hsm.CheckECDH) {
		fmt.Fprintln(a.stderr, "sealer: the token does not sign and agree on P-256: private keys are made in memory, and sealed")
		return nil
	}
	keys, err := e.token.DeviceKeys(u)
	if err == nil {
		e.keys = keys
	}
	return err
}

// tokenPIN returns the PIN of the token: from its file, from where the URI says, or asked for.
func (a *app) tokenPIN(u hsm.URI) (secret.Bytes, error) {
	file := a.element.pinFile
	if file == "" {
		file = strings.TrimPrefix(u.PINSource(), "file:")
	}
	return a.read(file, "--sealer-pin-file", "PIN of the token")
}

// abandon has the program end: what hangs in a module can be got rid of in no other way.
func (e *element) abandon() {
	if e.stuck != nil {
		close(e.stuck)
	}
}

// close ends the sessions of the token.
func (e *element) close() error {
	if e.token == nil {
		return nil
	}
	return e.token.Close()
}

// tokenSealer gives the sealer of a token the errors of a terminal.
type tokenSealer struct{ *hsm.Sealer }

// Open decrypts; what was altered, or sealed elsewhere, is ErrState.
func (s tokenSealer) Open(label string, sealed []byte) (secret.Bytes, error) {
	b, err := s.Sealer.Open(label, sealed)
	if errors.Is(err, hsm.ErrSealed) {
		err = fmt.Errorf("%w: %w", terminal.ErrState, err)
	}
	return b, err
}

// explainToken gives errors of the token their exit codes, and says what to do next.
func explainToken(err error) error {
	err, _ = exit.Explain(err,
		exit.When(hsm.ErrPINValue, exit.Usage, "use --sealer-pin-file, or pin-source in the URI"),
		exit.When(hsm.ErrURI, exit.Usage, sealerForm),
		exit.When(hsm.ErrNoBridge, exit.Failure, "make build-hsm builds latchkey-terminal-hsm, which has it"),
		exit.When(hsm.ErrModule, exit.NotFound, "name the module of the maker: module-path in --sealer"),
		exit.When(hsm.ErrNoToken, exit.NotFound, "see which there are: latchkey hsm list --module PATH"),
		exit.When(hsm.ErrAmbiguous, exit.Refused, "name one token, with one key of that name: see latchkey hsm list for serials"),
		exit.When(hsm.ErrPINTries, exit.Refused, "log in once by latchkey hsm probe --final-try, when you are sure of the PIN"),
		exit.When(hsm.ErrPIN, exit.Verification, "it was tried once; look before you try again: tokens lock"),
		exit.When(hsm.ErrAttributes, exit.Verification, "the key must not be used: docs/hsm.md says what its attributes have to be"),
		exit.When(dukpt.ErrUnsupported, exit.Refused, "the token needs AES-GCM, or AES-CBC and AES-CMAC: see latchkey hsm probe"),
		exit.When(engine.ErrKeyNotFound, exit.NotFound, "a terminal is made with --sealer from its beginning: latchkey-terminal enrol or import"),
		exit.When(hsm.ErrStuck, exit.Unreachable, "see that the device answers its maker's tool, and start again: nothing else ends such a call"),
		exit.When(engine.ErrUnavailable, exit.Unreachable, "see that the token is there, and try again"),
	)
	return err
}
