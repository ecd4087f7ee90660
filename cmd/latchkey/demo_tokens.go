package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// The tokens of the demonstration, one for each host, and one for what is opened only to found authorities and to certify
// services.
const (
	keydToken       = "keyd"
	decryptdToken   = "decryptd"
	provisiondToken = "provisiond"
	officeToken     = "office"
)

// modules are the places where SoftHSM is installed: Debian's, and those of a build from source.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// strongroom is SoftHSM in the folder of the demonstration, with a fresh token for each host. The demonstration is logged in to all of
// them, to load keys, and to play whoever copies keys; each service logs in by itself, to its own.
type strongroom struct {
	module, folder string
	open           map[string]*hsm.Token
}

// openStrongroom makes the tokens and logs in. SoftHSM reads its configuration once for each process, so it has to be named before the
// module is loaded; programs that are started from here find it, too.
func openStrongroom(ctx context.Context, root, module string) (_ *strongroom, err error) {
	v := &strongroom{module: module, folder: filepath.Join(root, "softhsm"), open: map[string]*hsm.Token{}}
	store, configuration := filepath.Join(v.folder, "tokens"), v.configuration()
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, err
	}
	text := "directories.tokendir = " + store + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := os.Setenv("SOFTHSM2_CONF", configuration); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	for _, name := range []string{keydToken, decryptdToken, provisiondToken, officeToken} {
		if err := v.initialise(ctx, name); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{keydToken, decryptdToken, provisiondToken, officeToken} { // all are there when the module is loaded
		if v.open[name], err = v.login(ctx, name); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// findModule returns the module that was asked for, or that of SoftHSM, where this program can use one.
func findModule(module string) (string, error) {
	if !hsm.Built {
		return "", exit.With(exit.Failure, hsm.ErrNoBridge, "make build-hsm builds dist/latchkey-hsm, which has it: latchkey-hsm demo --hsm")
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return "", exit.With(exit.NotFound, err, "install it: apt-get install softhsm2")
	}
	if module != "" {
		_, err := os.Stat(module)
		return module, exit.With(exit.NotFound, err, "name the module of SoftHSM")
	}
	for _, name := range modules {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", exit.With(exit.NotFound, fmt.Errorf("SoftHSM is in none of %v", modules), "install it (apt-get install softhsm2), or name it by --module")
}

// initialise makes a token with random PINs. Its tool takes them as arguments, which whoever is on this machine may see for a
// moment: it does for a demonstration, and for nothing else.
func (v *strongroom) initialise(ctx context.Context, name string) error {
	pin, officer := randomDigits(), randomDigits()
	if err := seal.WriteFile(v.pinFile(name), append(pin, '\n'), 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "softhsm2-util", "--module", v.module, "--init-token", "--free", "--label", name,
		"--pin", string(pin), "--so-pin", string(officer)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("softhsm2-util: %w: %s", err, out)
	}
	return nil
}

// randomDigits makes a PIN of a token.
func randomDigits() []byte {
	digits := make([]byte, 16)
	for i := range digits {
		digits[i] = '0' + digit(10)
	}
	return digits
}

func (v *strongroom) login(ctx context.Context, name string) (*hsm.Token, error) {
	u, err := hsm.ParseURI(v.uri(name))
	if err != nil {
		return nil, err
	}
	pin, err := seal.ReadSecret(v.pinFile(name), "PIN", 1, 255)
	if err != nil {
		return nil, err
	}
	defer pin.Wipe()
	t, err := hsm.Open(ctx, u, pin, hsm.Options{Sessions: 1, CacheObjects: -1})
	if err != nil {
		return nil, tokenFailed(err)
	}
	return t, nil
}

func (v *strongroom) configuration() string      { return filepath.Join(v.folder, "softhsm2.conf") }
func (v *strongroom) pinFile(name string) string { return filepath.Join(v.folder, name+".pin") }
func (v *strongroom) uri(name string) string {
	return "pkcs11:token=" + name + "?module-path=" + v.module
}

// section is the section hsm of the configuration of a service.
func (v *strongroom) section(name string) *token.Config {
	return &token.Config{URI: v.uri(name), PINFile: v.pinFile(name), Sessions: token.DefaultSessions, Cache: token.DefaultCache}
}

// keyURI names a private key in the token of a service.
func keyURI(name string) string { return hsm.KeyURI(name).String() }

// key is deploy.Options.Key: where each private key is made. Those of people stay files, and so do those of the acquirer's host,
// which has no token, and of both ends of the connection that is attacked.
func (v *strongroom) key(name string, curve elliptic.Curve) (crypto.Signer, error) {
	in := map[string]string{
		deploy.RootKey(identity.TerminalCA): officeToken, deploy.RootKey(identity.KeyDistCA): officeToken,
		deploy.RootKey(identity.ServicesCA): officeToken, deploy.IssuingKey(identity.ServicesCA): officeToken,
		deploy.IssuingKey(identity.TerminalCA): provisiondToken, deploy.SignerRegistry: provisiondToken,
		deploy.IssuingKey(identity.KeyDistCA): keydToken, deploy.SignerKDH: keydToken,
		deploy.ServiceDecrypt: decryptdToken,
	}[name]
	if in == "" {
		return nil, nil
	}
	return v.open[in].GenerateSigner(context.Background(), name, curve)
}

// generate puts a base key into the tokens of both hosts that work with it, each for its own work. It is drawn in the memory of
// the demonstration, as a key custodian has it in components, and wiped. Zone keys are those of the issuer, who has brought them.
func (v *strongroom) generate(ref keyset.KeyRef, a keys.Attributes, env keyset.Environment) (engine.KeyInfo, error) {
	if a.Usage != keys.UsageBDK {
		return engine.KeyInfo{}, nil
	}
	a.Exportability = keys.NonExportable
	key, err := keys.GenerateKey(a)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	defer key.Wipe()
	there, err := v.open[keydToken].Distribution().Import(context.Background(), ref, key, env)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	here, err := v.open[decryptdToken].Import(context.Background(), ref, key, env)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	if there.Fingerprint != here.Fingerprint || there.KCV != here.KCV {
		return engine.KeyInfo{}, fmt.Errorf("%s has KCV %v in one token and %v in the other", ref, there.KCV, here.KCV)
	}
	return here, nil
}

// zone puts a zone key of the issuer into the token of the decryption service.
func (v *strongroom) zone(ref keyset.KeyRef, key keys.Key, env keyset.Environment) (engine.KeyInfo, error) {
	return v.open[decryptdToken].Import(context.Background(), ref, key, env)
}

// initialKey is for whoever copies the keys of a terminal.
func (v *strongroom) initialKey(ctx context.Context, ref keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	return v.open[keydToken].Distribution().InitialKey(ctx, ref, id)
}

// rows lists the secret keys of the tokens.
func (v *strongroom) rows(ctx context.Context) ([][]string, error) {
	rows := [][]string{{"TOKEN", "KEY", "USAGE", "ALGORITHM", "KCV", "ENVIRONMENT", "KEY MODE"}}
	for _, name := range []string{keydToken, decryptdToken} {
		list, err := v.open[name].Keys(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range list {
			rows = append(rows, append([]string{name}, keyRow(k)...))
		}
	}
	return rows, nil
}

// keyRow is what is shown of a key.
func keyRow(k engine.KeyInfo) []string {
	return []string{
		k.Ref.String(), string(k.Attributes.Usage), k.Attributes.Algorithm.String(), k.KCV.String(), k.Labels.Environment.String(), k.Labels.KeyMode.String(),
	}
}

// close logs out.
func (v *strongroom) close() error {
	var errs []error
	for _, t := range v.open {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	return errors.Join(errs...)
}
