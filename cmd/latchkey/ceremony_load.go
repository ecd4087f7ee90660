package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/ceremony"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// loading is what import is told about a ceremony.
type loading struct {
	record    string
	files     []string
	passFiles []string
}

func (l *loading) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&l.record, "ceremony", "", "record of a ceremony that two custodians have approved, instead of a key in clear")
	fl.StringArrayVar(&l.files, "sealed-file", nil, "with --ceremony: sealed component; given again for each")
	fl.StringArrayVar(&l.passFiles, "custodian-passphrase-file", nil,
		"with --ceremony: file with the passphrase of a custodian (mode 0600), in the order of --sealed-file; default: each is asked")
}

// load brings the key of a ceremony into the token.
func (l *loading) load(cmd *cobra.Command, c *console, f *folder, e *element) error {
	if n := len(l.passFiles); n != 0 && n != len(l.files) {
		return exit.With(exit.Usage, fmt.Errorf("%d files with passphrases for %d sealed components", n, len(l.files)), "give --custodian-passphrase-file for each, or for none")
	}
	now := time.Now()
	r, verify, sealed, err := f.collect(l.record, l.files, now) // before anybody types anything: all are there
	if err != nil {
		return err
	}
	defer r.close()
	p := r.Plan()
	if _, err := r.Begin(verify, p.Token, now); err != nil {
		return ceremonyRefused(err)
	}
	return e.with(cmd.Context(), func(t *hsm.Token) error {
		report, err := t.Probe(cmd.Context())
		if err != nil {
			return err
		}
		in, err := r.Begin(verify, ceremony.Token{Label: report.Label, Serial: report.Serial}, now)
		if err != nil {
			return ceremonyRefused(err)
		}
		defer in.Wipe()
		if err := l.open(c, f, in, sealed, p.Environment); err != nil {
			return err
		}
		k, err := in.Key()
		if err != nil {
			return ceremonyRefused(err)
		}
		defer k.Wipe()
		put := t.Import
		if p.Distribution {
			put = t.Distribution().Import
		}
		info, err := put(cmd.Context(), p.Name, k, p.Environment)
		if err != nil {
			return err
		}
		err = in.Finish(ceremony.Loaded{ID: info.ID, KCV: info.KCV, Fingerprint: info.Fingerprint, KeyMode: info.Labels.KeyMode.String()})
		if err == nil {
			err = r.save()
		}
		if err != nil {
			return fmt.Errorf("the key %s is in the token, and its record could not be written: %w", p.Name, err)
		}
		return showKey(c, info)
	})
}

// open has each custodian open the own component.
func (l *loading) open(c *console, f *folder, in *ceremony.Loading, sealed [][]byte, env keyset.Environment) error {
	var passes []secret.Bytes
	defer func() {
		for _, p := range passes {
			p.Wipe()
		}
	}()
	for i, b := range sealed {
		share, number, err := in.Share(b)
		if err != nil {
			return ceremonyRefused(err)
		}
		_, name, _ := strings.Cut(share.Custodian, "/")
		file := ""
		if len(l.passFiles) > 0 {
			file = l.passFiles[i]
		}
		pass, err := c.passphrase(file, "--custodian-passphrase-file", fmt.Sprintf("component %d: passphrase of %s", number, name))
		if err != nil {
			return err
		}
		for _, other := range passes {
			if env == keyset.Production && other.Equal(pass) {
				pass.Wipe()
				return exit.With(exit.Refused, fmt.Errorf("the passphrase of %s is that of another custodian too: who knows it is both", name),
					"people have keys under passphrases of their own: latchkey operator add NAME --role custodian --own-passphrase")
			}
		}
		passes = append(passes, pass)
		who, err := f.custodian(name, pass)
		if err != nil {
			return err
		}
		kcv, err := in.Open(b, who)
		if err != nil {
			return ceremonyRefused(err)
		}
		c.note("component %d, of %s: check value %v is right", number, name, kcv)
	}
	return nil
}
