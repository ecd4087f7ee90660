package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// probed is what every way of decrypting a test swipe gave, the best first.
type probed struct {
	BaseKCV  string    `json:"baseKeyKcv"`
	Bytes    int       `json:"bytes"`
	Fits     int       `json:"fits"`
	Attempts []attempt `json:"attempts"`
}

type attempt struct {
	Profiles  []string `json:"profiles"`
	Mode      string   `json:"mode"`
	Key       string   `json:"key,omitempty"` // of AES
	Fits      bool     `json:"fits"`
	MaskedPAN string   `json:"maskedPan,omitempty"`
	Printable int      `json:"printablePercent"`
	Evidence  []string `json:"evidence"`
	score     int
}

// way is one kind of key in one mode, and the profiles that mean it.
type way struct {
	profiles []string
	spec     dukpt.DataSpec
}

// waysOf lists how a reader of the scheme may have encrypted. Profiles of one kind of key are one way.
func waysOf(scheme dukpt.Scheme) []way {
	types := []dukpt.WorkingKey{0}
	if scheme == dukpt.AES {
		types = cipherTypes
	}
	var ways []way
	for _, mode := range []dukpt.CipherMode{dukpt.CBC, dukpt.ECB} {
		for _, key := range types {
			first := len(ways)
			for _, p := range profiles {
				if (p.spec.Key != 0) != (scheme == dukpt.AES) {
					continue
				}
				same := slices.IndexFunc(ways[first:], func(w way) bool {
					return w.spec.Profile == p.spec.Profile && w.spec.Direction == p.spec.Direction
				})
				if same >= 0 {
					ways[first+same].profiles = append(ways[first+same].profiles, p.name)
					continue
				}
				spec := p.spec
				spec.Key, spec.Mode = key, mode
				ways = append(ways, way{[]string{p.name}, spec})
			}
		}
	}
	return ways
}

// probe reads a base key and encrypted data, and decrypts in every way.
func probe(c *console, ksn dukpt.KSN, bdkFile, cipherFile, iv string) (*probed, error) {
	if fromStdin(bdkFile) && fromStdin(cipherFile) {
		return nil, exit.With(exit.Usage, errors.New("the base key and the data cannot both come from standard input"),
			"name a file with --bdk-file or with --ciphertext")
	}
	if cipherFile == "" {
		cipherFile = "-"
	}
	vector, err := hex.DecodeString(iv)
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "--iv is not hexadecimal")
	}
	ct, err := readHex(c, cipherFile, "--ciphertext", "encrypted data")
	if err != nil {
		return nil, err
	}
	defer ct.Wipe()
	bdk, err := readHexKey(c, bdkFile, ksn.Scheme())
	if err != nil {
		return nil, err
	}
	defer bdk.Wipe()
	base, err := dukpt.NewBaseKey(bdk)
	if err != nil {
		return nil, exit.With(exit.Usage, err, "")
	}
	defer base.Wipe()
	tx, err := base.Begin(ksn)
	if err != nil {
		return nil, err
	}
	defer tx.End()
	out := &probed{BaseKCV: bdk.KCV().String(), Bytes: ct.Len()}
	if out.Attempts, err = attempts(tx, ksn.Scheme(), vector, ct.Expose()); err != nil {
		return nil, err
	}
	for _, a := range out.Attempts {
		if a.Fits {
			out.Fits++
		}
	}
	return out, nil
}

func fromStdin(file string) bool { return file == "" || file == "-" }

// attempts decrypts in every way that goes with the length of the data, of the IV and of the base key, the best first. Ways
// alike stay in the order of waysOf.
func attempts(tx *dukpt.HostTransaction, scheme dukpt.Scheme, iv, ct []byte) ([]attempt, error) {
	var out []attempt
	var refused error
	for _, w := range waysOf(scheme) {
		if w.spec.Mode == dukpt.CBC && len(iv) > 0 {
			w.spec.IV = iv
		}
		clear, err := tx.DecryptData(nil, w.spec, ct)
		switch {
		case errors.Is(err, dukpt.ErrStrength):
			continue
		case err != nil:
			refused = cmp.Or(refused, err)
			continue
		}
		a := judge(clear, w.blockSize())
		secret.Wipe(clear)
		a.Profiles, a.Mode = w.profiles, w.spec.Mode.String()
		if w.spec.Key != 0 {
			a.Key = w.spec.Key.String()
		}
		out = append(out, a)
	}
	if len(out) == 0 || (len(iv) > 0 && !slices.ContainsFunc(out, func(a attempt) bool { return a.Mode == dukpt.CBC.String() })) {
		return nil, exit.With(exit.Usage, refused, blocksHint+"; an IV has the length of one")
	}
	slices.SortStableFunc(out, func(a, b attempt) int { return cmp.Compare(b.score, a.score) })
	return out, nil
}

func (w way) blockSize() int {
	switch w.spec.Key {
	case dukpt.KeyAES128, dukpt.KeyAES192, dukpt.KeyAES256:
		return 16
	}
	return 8
}

func (a attempt) name() string {
	name := strings.Join(a.Profiles, ", ") + " " + a.Mode
	if a.Key != "" {
		name += " " + a.Key
	}
	return name
}

func (p *probed) fields() []field {
	fields := []field{{"base key KCV", p.BaseKCV}, {"bytes", p.Bytes}}
	for i, a := range p.Attempts {
		verdict := "no"
		if a.Fits {
			verdict = "FITS"
		}
		fields = append(fields, field{fmt.Sprintf("%d. %s", i+1, a.name()), verdict + ": " + strings.Join(a.Evidence, "; ")})
	}
	return fields
}

// verdict is an error where no way fits.
func (p *probed) verdict() error {
	if p.Fits > 0 {
		return nil
	}
	hint := "compare the check value of the base key with the one of its custodian; check that KSN and data are of one swipe and that the " +
		"data is complete, without the reader's frame; latchkey dukpt decrypt --kind raw opens data that is no text, such as MagnePrint"
	if p.Attempts[0].score >= scoreBehindIV {
		hint = "the first block alone is no text: give the reader's initialization vector with --iv, or cut what stands before the data"
	}
	return exit.With(exit.Verification, errors.New("no way of decrypting gives card data"), hint)
}
