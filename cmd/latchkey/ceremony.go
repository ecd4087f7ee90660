package main

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/ceremony"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newCeremony(c *console, f *folder) *cobra.Command {
	return noun("ceremony", "A key comes into a token in components, each sealed to its custodian, under two-person approval",
		newCeremonyPlan(c, f), newCeremonySeal(c, f), newCeremonyApprove(c, f), newCeremonyShow(c, f))
}

// custodian opens the key of a custodian under a passphrase.
func (f *folder) custodian(name string, pass secret.Bytes) (ceremony.Custodian, error) {
	certificate, key, err := deploy.PersonFiles(f.dir, name)
	if err != nil {
		return ceremony.Custodian{}, exit.With(exit.Usage, err, personName)
	}
	cert, err := deploy.Credential(certificate, key, pass)
	if err != nil {
		return ceremony.Custodian{}, notPerson(name, err)
	}
	c, err := ceremony.NewCustodian(cert.Leaf, cert.PrivateKey.(crypto.Signer)) // Credential has checked the type
	return c, ceremonyRefused(err)
}

func newCeremonyPlan(c *console, f *folder) *cobra.Command {
	r, e := new(keyParts), &element{c: c}
	var path, keyKCV string
	var distribution bool
	var custodians []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Begin a ceremony: which key, into which token, of whose components",
		Long: `Plan writes a new record of a ceremony: the key that is to come into a token, and the custodians of its components,
in their order. Every one of them is another person, with a certificate of role custodian (latchkey operator add
--role custodian). The record is text, holds no secret, and is only appended to from then on.

A base key is for latchkey-decryptd, or with --distribution for latchkey-keyd: what is approved says which. A key that
both have has a plan for each token, under one name, of the same components and with --key-kcv.

The environment is that of the deployment. Nobody logs in to the token; it is named so that the key goes into no other.`,
		Example: `  latchkey key ceremony plan --record bdk-1.ceremony --hsm "$TOKEN" --name alias/bdk-1 --algorithm 2TDEA \
    --custodian ANNA --custodian BERT --key-kcv 08D7B4`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.parse(); err != nil {
				return err
			}
			p := ceremony.Plan{Name: r.ref, Attributes: r.attributes, Distribution: distribution, Parity: r.p}
			p.Attributes.Exportability = keys.NonExportable
			if keyKCV != "" {
				var err error
				if p.KeyKCV, err = parseKCV(p.Attributes.Algorithm, keyKCV); err != nil {
					return err
				}
			}
			config, err := f.config()
			if err != nil {
				return err
			}
			p.Tenant, p.Environment = config.Tenant, config.Environment
			if p.Shares, err = f.shares(config.Tenant, custodians); err != nil {
				return err
			}
			u, err := e.parse()
			if err != nil {
				return err
			}
			token, err := hsm.Find(cmd.Context(), u)
			if err != nil {
				return tokenFailed(err)
			}
			p.Token = ceremony.Token{Label: token.Label, Serial: token.Serial}
			p.Created = time.Now()
			p.Expires = p.Created.Add(life)
			record, err := ceremony.New(p)
			if err != nil {
				return ceremonyRefused(err)
			}
			if err := writeNew(path, record.Text()); err != nil {
				return err
			}
			c.note("next: each custodian seals the own component: latchkey key ceremony seal --record %s --custodian NAME --sealed-file FILE", path)
			return showCeremony(c, record, nil, nil)
		},
	}
	r.flags(cmd, "name of the key in the token: alias/…")
	fl := cmd.Flags()
	fl.StringVar(&path, "record", "", "new file for the record of the ceremony")
	fl.StringVar(&e.uri, "hsm", "", "PKCS#11 URI of the token (RFC 7512), with its module-path")
	fl.StringArrayVar(&custodians, "custodian", nil, "who has a component; given again for each, 2 to 9")
	fl.BoolVar(&distribution, "distribution", false, "for latchkey-keyd: initial keys come out of it, and no transaction is worked on; for good")
	fl.StringVar(&keyKCV, "key-kcv", "", "check value that the key must have, as for key components combine")
	fl.DurationVar(&life, "life", 72*time.Hour, "how long the ceremony may last, at most 744h")
	required(cmd, "record", "hsm", "name", "custodian")
	return cmd
}

// shares returns who has which component. Each certificate is valid now.
func (f *folder) shares(tenant keyset.TenantID, names []string) ([]ceremony.Share, error) {
	verify, err := deploy.Verifier(f.dir, tenant, time.Now())
	if err != nil {
		return nil, err
	}
	var out []ceremony.Share
	for _, name := range names {
		path, _, err := deploy.PersonFiles(f.dir, name)
		if err != nil {
			return nil, exit.With(exit.Usage, err, personName)
		}
		chain, err := deploy.LoadChain(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, exit.With(exit.NotFound, err, "latchkey operator add "+name+" --role custodian --own-passphrase")
		}
		if err != nil {
			return nil, err
		}
		who, _, err := verify(chain[0].Raw)
		if err != nil {
			return nil, exit.With(exit.Refused, err, custodianHint)
		}
		out = append(out, ceremony.Share{Custodian: who, Certificate: chain[0].Raw})
	}
	return out, nil
}

const custodianHint = "custodians have certificates of role custodian that are valid now, and each is another person: latchkey operator add NAME --role custodian --own-passphrase"

func newCeremonySeal(c *console, f *folder) *cobra.Command {
	var path, who, file, out, kcv string
	var draw bool
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Seal one component to the certificate of its custodian",
		Long: `Seal takes one component and seals it to the certificate that the plan has for its custodian: nobody else can open it
again, and it opens in this ceremony only. A component comes from a file that key components split wrote, or from one
with nothing but its digits, or somebody types it, without echo; its check value comes with it, or is given or typed too.
With --draw it is drawn at random: of a key all of whose components are drawn nobody ever knew anything.

No private key and no passphrase is needed. The check value that is shown is compared with the sheet, and again when the
ceremony is approved.`,
		Example: `  latchkey key ceremony seal --record bdk-1.ceremony --custodian ANNA --component-file /media/anna/sheet --sealed-file bdk-1.anna
  latchkey key ceremony seal --record bdk-1.ceremony --custodian BERT --draw --sealed-file bdk-1.bert`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			if draw && (file != "" || kcv != "") {
				return exit.With(exit.Usage, errors.New("a component is drawn, or brought"), "give --draw or --component-file")
			}
			r, err := readRecord(path)
			if err != nil {
				return err
			}
			now := time.Now()
			verify, err := f.ours(r, now)
			if err != nil {
				return err
			}
			p := r.Plan()
			i := slices.IndexFunc(p.Shares, func(s ceremony.Share) bool { return s.Custodian == string(p.Tenant)+"/"+who })
			if i < 0 {
				return exit.With(exit.NotFound, fmt.Errorf("%q is no custodian of this ceremony", who), "see who is: latchkey key ceremony show --record "+path)
			}
			if _, _, err := verify(p.Shares[i].Certificate); err != nil {
				return exit.With(exit.Refused, err, custodianHint)
			}
			var s keys.Sheet
			if draw {
				s, err = ceremony.Draw(p, i+1)
			} else {
				s, err = readShare(c, p, i, file, kcv)
			}
			if err != nil {
				return ceremonyRefused(err)
			}
			defer s.Wipe()
			sealed, err := ceremony.Seal(p, s, now)
			if err != nil {
				return ceremonyRefused(err)
			}
			if err := writeNew(out, sealed); err != nil {
				return err
			}
			return showShare(c, p, s, out)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&path, "record", "", "record of the ceremony")
	fl.StringVar(&who, "custodian", "", "whose component it is")
	fl.StringVar(&file, "component-file", "", "file with the component; - for standard input; default: ask")
	fl.StringVar(&kcv, "kcv", "", "check value of a component that comes without")
	fl.BoolVar(&draw, "draw", false, "draw the component at random")
	fl.StringVar(&out, "sealed-file", "", "new file for the sealed component")
	required(cmd, "record", "custodian", "sealed-file")
	return cmd
}

// readShare reads the component of a plan from its file, or from whoever types it.
func readShare(c *console, p ceremony.Plan, i int, file, kcv string) (keys.Sheet, error) {
	r := combination{count: len(p.Shares)}
	r.attributes = p.Attributes
	if file != "" {
		r.files = make([]string, len(p.Shares))
		r.files[i] = file
	}
	if kcv != "" {
		v, err := parseKCV(p.Attributes.Algorithm, kcv)
		if err != nil {
			return keys.Sheet{}, err
		}
		r.expected = make([]keys.CheckValue, len(p.Shares))
		r.expected[i] = v
	}
	s, err := r.component(c, i)
	if err != nil {
		return keys.Sheet{}, err
	}
	if s.Number != i+1 || s.Of != len(p.Shares) {
		s.Wipe()
		return keys.Sheet{}, fmt.Errorf("%w: the sheet is component %d of %d, the plan wants %d of %d", ceremony.ErrOther, s.Number, s.Of, i+1, len(p.Shares))
	}
	return s, nil
}

// listedShare is what is public about a sealed component.
type listedShare struct {
	Number     int    `json:"number"`
	Of         int    `json:"of"`
	Custodian  string `json:"custodian"`
	CheckValue string `json:"checkValue"`
	SealedFile string `json:"sealedFile"`
}

func showShare(c *console, p ceremony.Plan, s keys.Sheet, out string) error {
	l := listedShare{s.Number, s.Of, p.Shares[s.Number-1].Custodian, s.CheckValue.String(), out}
	return c.show(l, field{"component", fmt.Sprintf("%d of %d", l.Number, l.Of)}, field{"custodian", l.Custodian},
		field{"component KCV", l.CheckValue}, field{"sealed file", l.SealedFile})
}

func newCeremonyApprove(c *console, f *folder) *cobra.Command {
	var path, who, passFile string
	var files []string
	cmd := &cobra.Command{
		Use:   "approve",
		Short: "Approve a ceremony: this key, of these sealed components, into this token",
		Long: `Approve signs what the record says and which sealed files belong to it, as one custodian, and appends the approval to
the record. Two different custodians approve before anything is loaded, in every environment; they may have a component
or not. Read what is shown before you give the passphrase: it is what you sign.`,
		Example: `  latchkey key ceremony approve --record bdk-1.ceremony --sealed-file bdk-1.anna --sealed-file bdk-1.bert --as ANNA`,
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			now := time.Now()
			r, verify, _, err := f.collect(path, files, now)
			if err != nil {
				return err
			}
			defer r.close()
			noteCeremony(c, r.Record)
			pass, err := c.passphrase(passFile, "--as-passphrase-file", "passphrase of "+who)
			if err != nil {
				return err
			}
			defer pass.Wipe()
			custodian, err := f.custodian(who, pass)
			if err != nil {
				return err
			}
			if err := r.Approve(custodian, verify, now); err != nil {
				return ceremonyRefused(err)
			}
			if err := r.save(); err != nil {
				return err
			}
			return f.show(c, r.Record, now)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&path, "record", "", "record of the ceremony")
	fl.StringArrayVar(&files, "sealed-file", nil, "sealed component; given again for each")
	fl.StringVar(&who, "as", "", "who approves: a custodian")
	fl.StringVar(&passFile, "as-passphrase-file", "", "file with the passphrase of who approves (mode 0600); - for standard input; default: ask")
	required(cmd, "record", "sealed-file", "as")
	return cmd
}

func newCeremonyShow(c *console, f *folder) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what a ceremony has come to, and verify who approved it",
		Long: `Show verifies the record of a ceremony and its signatures. Certificates that have expired since they signed still count
here; to load a key they have to be valid.`,
		Example: "  latchkey key ceremony show --record bdk-1.ceremony",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			r, err := readRecord(path)
			if err != nil {
				return err
			}
			return f.show(c, r, time.Time{})
		},
	}
	cmd.Flags().StringVar(&path, "record", "", "record of the ceremony")
	required(cmd, "record")
	return cmd
}

func (f *folder) show(c *console, r *ceremony.Record, at time.Time) error {
	verify, err := f.ours(r, at)
	if err != nil {
		return err
	}
	approvers, err := r.Approvers(verify)
	if err != nil {
		return ceremonyRefused(err)
	}
	loaded, _, err := r.Loaded(verify)
	if err != nil {
		return ceremonyRefused(err)
	}
	return showCeremony(c, r, approvers, loaded)
}

// listedCeremony is what a record says.
type listedCeremony struct {
	Ceremony    string         `json:"ceremony"`
	Name        string         `json:"name"`
	Usage       string         `json:"usage"`
	Distributes bool           `json:"distribution,omitempty"`
	Algorithm   string         `json:"algorithm"`
	Environment string         `json:"environment"`
	KeyKCV      string         `json:"keyKCV,omitempty"`
	Token       string         `json:"token"`
	Serial      string         `json:"serial"`
	Expires     time.Time      `json:"expires"`
	Custodians  []string       `json:"custodians"`
	Components  []listedSealed `json:"components"`
	Approvers   []string       `json:"approvers"`
	Loaded      *listedLoaded  `json:"loaded,omitempty"`
}

type listedSealed struct {
	Number     int    `json:"number"`
	Custodian  string `json:"custodian"`
	CheckValue string `json:"checkValue"`
	SHA256     string `json:"sha256"`
}

type listedLoaded struct {
	ID          string    `json:"id"`
	KCV         string    `json:"kcv"`
	Fingerprint string    `json:"fingerprint"`
	KeyMode     string    `json:"keyMode"`
	At          time.Time `json:"at"`
}

func listCeremony(r *ceremony.Record, approvers []string, loaded *ceremony.Statement) (listedCeremony, []field) {
	p := r.Plan()
	l := listedCeremony{
		Ceremony: p.Ceremony, Name: p.Name.String(), Usage: string(p.Attributes.Usage), Distributes: p.Distribution,
		Algorithm: p.Attributes.Algorithm.String(), Environment: p.Environment.String(), KeyKCV: p.KeyKCV.String(), Token: p.Token.Label, Serial: p.Token.Serial, Expires: p.Expires,
		Components: []listedSealed{}, Approvers: append([]string{}, approvers...),
	}
	fields := []field{
		{"ceremony", l.Ceremony}, {"key", l.Name + ", " + l.Usage + ", " + l.Algorithm + ", " + l.Environment}, {"work", workOf(p)}, {"key KCV", orUnknown(l.KeyKCV)},
		{"token", l.Token + ", serial number " + l.Serial}, {"expires", l.Expires.Format(time.RFC3339)},
	}
	for _, s := range p.Shares {
		l.Custodians = append(l.Custodians, s.Custodian)
	}
	fields = append(fields, field{"custodians", strings.Join(l.Custodians, ", ")})
	for _, s := range r.Components() {
		l.Components = append(l.Components, listedSealed{s.Number, s.Custodian, s.KCV.String(), s.File})
		fields = append(fields, field{fmt.Sprintf("component %d", s.Number), s.Custodian + ", " + s.KCV.String() + ", SHA-256 " + s.File})
	}
	if len(approvers) > 0 {
		fields = append(fields, field{"approved by", strings.Join(approvers, ", ")})
	}
	if loaded != nil {
		k := loaded.Loaded
		l.Loaded = &listedLoaded{k.ID.String(), k.KCV.String(), k.Fingerprint.String(), k.KeyMode, loaded.At}
		fields = append(fields, field{"loaded", loaded.At.Format(time.RFC3339) + ", id " + l.Loaded.ID + ", KCV " + l.Loaded.KCV + ", key mode " + l.Loaded.KeyMode})
	}
	return l, fields
}

// workOf says which host has the key.
func workOf(p ceremony.Plan) string {
	switch {
	case p.Distribution:
		return "key distribution: initial keys for terminals, no transactions"
	case p.Attributes.Usage == keys.UsageBDK:
		return "transactions, no initial keys for terminals"
	}
	return "transactions"
}

func orUnknown(s string) string {
	if s == "" {
		return "not known yet"
	}
	return s
}

func showCeremony(c *console, r *ceremony.Record, approvers []string, loaded *ceremony.Statement) error {
	l, fields := listCeremony(r, approvers, loaded)
	return c.show(l, fields...)
}

// noteCeremony tells people what they are about to sign.
func noteCeremony(c *console, r *ceremony.Record) {
	_, fields := listCeremony(r, nil, nil)
	for _, f := range fields {
		c.note("%s: %v", f.name, f.value)
	}
}

// ceremonyRefused gives the errors of a ceremony their exit codes.
func ceremonyRefused(err error) error {
	if _, coded := errors.AsType[*exit.Error](err); coded || err == nil {
		return err
	}
	err, known := exit.Explain(err,
		exit.When(keyset.ErrApprovals, exit.Refused, "two custodians approve: latchkey key ceremony approve --as NAME"),
		exit.When(ceremony.ErrDone, exit.Refused, "a ceremony is for one key, once: see latchkey key list --hsm"),
		exit.When(ceremony.ErrExpired, exit.Refused, "begin another one: latchkey key ceremony plan"),
		exit.When(ceremony.ErrMissing, exit.Refused, "bring the sealed components of all custodians, each with --sealed-file"),
		exit.When(ceremony.ErrCustodian, exit.Refused, custodianHint),
		exit.When(ceremony.ErrOther, exit.Verification, "compare record, sealed files and token: latchkey key ceremony show"),
		exit.When(ceremony.ErrSealed, exit.Verification, "bring the file as latchkey key ceremony seal wrote it"),
		exit.When(keyset.ErrSignature, exit.Verification, "the record was changed, or a signer's certificate does not count: begin another ceremony"),
		exit.When(ceremony.ErrPlan, exit.Usage, "see: latchkey key ceremony plan --help"),
		exit.When(ceremony.ErrFormat, exit.Verification, "bring the file as latchkey wrote it"),
		exit.When(seal.ErrPassphrase, exit.Verification, "each custodian gives the own passphrase"),
	)
	if known {
		return err
	}
	return componentRefused(err)
}
