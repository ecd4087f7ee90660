package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newComponents(c *console, f *folder) *cobra.Command {
	return noun("components", "Keys that come and leave in parts, one for each custodian",
		newComponentsSplit(c, f), newComponentsCombine(c, f), newComponentsCheck(c))
}

// keyParts is what split and combine are told about a key.
type keyParts struct {
	name, algorithm, usage, mode, parity string

	files []string

	ref        keyset.KeyRef // zero without a name
	attributes keys.Attributes
	p          keys.Parity
}

func (r *keyParts) flags(cmd *cobra.Command, name string) {
	fl := cmd.Flags()
	fl.StringVar(&r.name, "name", "", name)
	fl.StringVar(&r.algorithm, "algorithm", "AES-128", "2TDEA, 3TDEA, AES-128, AES-192 or AES-256")
	fl.StringVar(&r.usage, "usage", "B0", keyUsages)
	fl.StringVar(&r.mode, "mode", "", keyModes)
	fl.StringVar(&r.parity, "parity", "adjusted", "of TDES: adjusted, required (of every component) or ignored")
}

// parse checks what does not need a deployment, a file or a person.
func (r *keyParts) parse() (err error) {
	if r.name != "" {
		if r.ref, err = keyset.ParseKeyRef(r.name); err != nil {
			return exit.With(exit.Usage, err, "a name is alias/ and 1 to 64 of A-Z a-z 0-9 / _ -")
		}
	}
	if r.attributes, err = keyAttributes(r.algorithm, r.usage, r.mode); err != nil {
		return err
	}
	if r.p, err = keys.ParseParity(r.parity); err != nil {
		return exit.With(exit.Usage, err, "")
	}
	for i, file := range r.files {
		if slices.Contains(r.files[:i], file) {
			return exit.With(exit.Usage, fmt.Errorf("%s is named twice", file), "each component has a file of its own")
		}
	}
	return nil
}

func checkCount(n int) error {
	if n < keys.MinComponents || n > keys.MaxComponents {
		return exit.With(exit.Usage, fmt.Errorf("%d components", n),
			fmt.Sprintf("a key has %d to %d: name a file for each with --component-file", keys.MinComponents, keys.MaxComponents))
	}
	return nil
}

// listedComponent is what is public about a component.
type listedComponent struct {
	Number     int    `json:"number"`
	CheckValue string `json:"checkValue"`
	File       string `json:"file,omitempty"`
}

// listedWhole is what is public about a key and its components.
type listedWhole struct {
	Name        string            `json:"name,omitempty"`
	ID          string            `json:"id,omitempty"`
	Usage       string            `json:"usage"`
	Algorithm   string            `json:"algorithm"`
	CheckValues []string          `json:"checkValues"`
	Components  []listedComponent `json:"components"`
	ClearFile   string            `json:"clearFile,omitempty"`
}

func (r *keyParts) list(k keys.Key, sheets []keys.Sheet) (listedWhole, error) {
	l := listedWhole{Usage: string(r.attributes.Usage), Algorithm: r.attributes.Algorithm.String(), Components: []listedComponent{}}
	values, err := checkValues(r.attributes.Algorithm, k)
	if err != nil {
		return l, err
	}
	l.CheckValues = texts(values)
	for i, s := range sheets {
		lc := listedComponent{Number: s.Number, CheckValue: s.CheckValue.String()}
		if i < len(r.files) {
			lc.File = r.files[i]
		}
		l.Components = append(l.Components, lc)
	}
	return l, nil
}

// checkValues returns the check values of all kinds that the algorithm has, the usual one first.
func checkValues(a keys.Algorithm, of interface {
	CheckValue(keys.KCVKind) (keys.CheckValue, error)
}) ([]keys.CheckValue, error) {
	var out []keys.CheckValue
	for _, kind := range []keys.KCVKind{a.CheckValueKind(), keys.KCVLegacy, keys.KCVCMAC, keys.KCVCMACShort} {
		if !kind.Fits(a) {
			continue
		}
		v, err := of.CheckValue(kind)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out, nil
}

func texts(values []keys.CheckValue) (out []string) {
	for _, v := range values {
		out = append(out, v.String())
	}
	return out
}

func (l listedWhole) show(c *console) error {
	var fields []field
	for _, lc := range l.Components {
		text := lc.CheckValue
		if lc.File != "" {
			text += "  " + lc.File
		}
		fields = append(fields, field{fmt.Sprintf("component %d", lc.Number), text})
	}
	if l.Name != "" {
		fields = append(fields, field{"name", l.Name}, field{"id", l.ID})
	}
	fields = append(fields, field{"usage", l.Usage}, field{"algorithm", l.Algorithm}, field{"key KCV", strings.Join(l.CheckValues, " ")})
	if l.ClearFile != "" {
		fields = append(fields, field{"CLEAR KEY in", l.ClearFile})
	}
	return c.show(l, fields...)
}

func newComponentsSplit(c *console, f *folder) *cobra.Command {
	r := new(keyParts)
	cmd := &cobra.Command{
		Use:   "split",
		Short: "Draw a key and write its components, one file for each custodian",
		Long: `Split draws a key at random and writes it as 2 to 9 components, each as long as the key: the key is the
XOR of all of them, and whoever lacks one knows nothing about it (ANSI X9.24-1, PCI PIN 21-1). Each file
has one component with its number, its check value and that of the key. It is new, has mode 0600 and goes to
one custodian alone: hand it over on a medium of its own, and destroy it here.

With --name the key is also kept in the deployment, as key generate keeps it. Without, the files are all
there is of it. Nobody sees the key itself.`,
		Example: `  latchkey key components split --algorithm AES-128 --usage B0 \
    --component-file /media/anna/bdk-1 --component-file /media/bert/bdk-1 --component-file /media/cleo/bdk-1`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			if err := checkCount(len(r.files)); err != nil {
				return err
			}
			if err := r.parse(); err != nil {
				return err
			}
			k, err := keys.GenerateKey(r.attributes)
			if err != nil {
				return exit.With(exit.Usage, err, "")
			}
			defer k.Wipe()
			sheets, err := keys.Split(k, r.p, len(r.files))
			if err != nil {
				return err
			}
			defer wipeSheets(sheets)
			l, err := r.list(k, sheets)
			if err != nil {
				return err
			}
			if err := writeSheets(r.files, sheets); err != nil {
				return err
			}
			if r.name != "" {
				if l.ID, err = r.keep(f, k); err != nil {
					return errors.Join(err, removeAll(r.files)) // components of a key that nobody has
				}
				l.Name = r.name
			}
			c.note("next: each custodian runs latchkey key components check on the own file, and compares the check value")
			return l.show(c)
		},
	}
	r.flags(cmd, "keep the key in the deployment under this name too: alias/…")
	cmd.Flags().StringArrayVar(&r.files, "component-file", nil, "new file for one component; given again for each, 2 to 9")
	return cmd
}

// keep stores a key in the deployment, and returns its id.
func (r *keyParts) keep(f *folder, k keys.Key) (id string, err error) {
	err = f.with(func(d *deploy.Deployment) error {
		ring, err := d.Keyring()
		if err != nil {
			return err
		}
		info, err := ring.Import(r.ref, k, d.Config().Environment)
		id = info.ID.String()
		return notKept(err)
	})
	return id, err
}

// notKept gives the errors of storing a key their exit codes.
func notKept(err error) error {
	switch {
	case errors.Is(err, keyring.ErrExists):
		return exit.With(exit.Refused, err, "choose another name: keys are never replaced")
	case errors.Is(err, keyring.ErrDuplicate):
		return exit.With(exit.Refused, err, "a key has one name: see latchkey key list")
	case errors.Is(err, keys.ErrWeak):
		return exit.With(exit.Refused, err, weakHint)
	}
	return err
}

// writeSheets writes each sheet to a file of its own, or none.
func writeSheets(files []string, sheets []keys.Sheet) error {
	for i, s := range sheets {
		text, err := s.Text()
		if err == nil {
			err = writeNew(files[i], text.Expose())
			text.Wipe()
		}
		if err != nil {
			return errors.Join(err, removeAll(files[:i]))
		}
	}
	return nil
}

// writeNew writes a file that was not there, for its owner alone.
func writeNew(path string, text []byte) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return exit.With(exit.Refused, err, "choose another file: nothing is written over")
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// writeClear writes a key as hexadecimal digits.
func writeClear(path string, key secret.Bytes) error {
	raw := key.Expose()
	text := secret.New(hex.EncodedLen(len(raw)) + 1)
	defer text.Wipe()
	out := text.Expose()
	hex.Encode(out, raw)
	for i, c := range out {
		if c >= 'a' {
			out[i] = c - 'a' + 'A'
		}
	}
	out[len(out)-1] = '\n'
	return writeNew(path, text.Expose())
}

func removeAll(files []string) error {
	var errs []error
	for _, file := range files {
		errs = append(errs, os.Remove(file))
	}
	return errors.Join(errs...)
}

func wipeSheets(sheets []keys.Sheet) {
	for _, s := range sheets {
		s.Wipe()
	}
}

// combination is what combine is told besides.
type combination struct {
	keyParts

	count     int
	kcvs      []string
	keyKCV    string
	clearFile string

	expected []keys.CheckValue // of kcvs
	whole    keys.CheckValue   // of keyKCV
}

func newComponentsCombine(c *console, f *folder) *cobra.Command {
	r := new(combination)
	cmd := &cobra.Command{
		Use:   "combine",
		Short: "Make a key of its components and keep it",
		Long: `Combine makes a key of 2 to 9 components and keeps it in the deployment, as key generate does. Components
come from files that split wrote, from files with nothing but hexadecimal digits, or, with --count, from
people who type them one after the other, without echo. They never come from the command line.

Every component is held to its check value before the next one is asked for. Files of split have it;
otherwise it is given with --kcv, in the order of the components, or typed. A check value is its digits or
a kind, a colon and its digits:
  legacy:08D7B4        first 3 bytes of an encrypted block of zeros (TDES; AES in older systems)
  cmac:08793E25AB      first 5 bytes of the CMAC of a block of zeros (AES)
  cmac-short:08793E    first 3 bytes of the same

Refused are components of two keys, equal ones, some that cancel each other out, and weak keys of DES.`,
		Example: `  latchkey key components combine --name alias/bdk-1 --algorithm 2TDEA --count 3 --key-kcv 08D7B4
  latchkey key components combine --name alias/bdk-1 --component-file anna --component-file bert`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			if err := r.parse(); err != nil {
				return err
			}
			k, sheets, err := r.combine(c)
			if err != nil {
				return err
			}
			defer k.Wipe()
			l, err := r.list(k, sheets)
			if err != nil {
				return err
			}
			if r.name != "" {
				l.Name = r.name
				if l.ID, err = r.keep(f, k); err != nil {
					return err
				}
			} else {
				l.ClearFile = r.clearFile
				if err = writeClear(r.clearFile, k.Material()); err != nil {
					return err
				}
				c.note("warning: %s has the key in the clear: use it for tests only, and destroy it", r.clearFile)
			}
			return l.show(c)
		},
	}
	r.flags(cmd, "name of the key in the deployment: alias/…")
	fl := cmd.Flags()
	fl.StringArrayVar(&r.files, "component-file", nil, "file with one component; given again for each")
	fl.IntVar(&r.count, "count", 0, "how many components people type, instead of files")
	fl.StringArrayVar(&r.kcvs, "kcv", nil, "check value of a component that comes without; given again for each, in their order")
	fl.StringVar(&r.keyKCV, "key-kcv", "", "check value that the key must have")
	fl.StringVar(&r.clearFile, "insecure-clear-key-file", "", "instead of --name: write the key IN THE CLEAR to a new file, for tests only")
	return cmd
}

func (r *combination) parse() error {
	if (r.name == "") == (r.clearFile == "") {
		return exit.With(exit.Usage, errors.New("the key goes into the deployment or into a file"), "give --name alias/…")
	}
	if len(r.files) > 0 && r.count != 0 {
		return exit.With(exit.Usage, errors.New("components come from files or from people"), "give --component-file for each, or --count")
	}
	if len(r.files) > 0 {
		r.count = len(r.files)
	}
	if err := checkCount(r.count); err != nil {
		return err
	}
	if err := r.keyParts.parse(); err != nil {
		return err
	}
	if len(r.kcvs) != 0 && len(r.kcvs) != r.count {
		return exit.With(exit.Usage, fmt.Errorf("%d check values for %d components", len(r.kcvs), r.count), "give --kcv for each component, in their order, or for none")
	}
	for _, s := range r.kcvs {
		v, err := parseKCV(r.attributes.Algorithm, s)
		if err != nil {
			return err
		}
		r.expected = append(r.expected, v)
	}
	if r.keyKCV == "" {
		return nil
	}
	var err error
	r.whole, err = parseKCV(r.attributes.Algorithm, r.keyKCV)
	return err
}

// parseKCV reads a check value with or without its kind, which the number of digits says unless the key is AES.
func parseKCV(a keys.Algorithm, s string) (keys.CheckValue, error) {
	const hint = "a check value has 6 or 10 hexadecimal digits, or stands behind its kind: legacy:, cmac: or cmac-short:"
	if !strings.Contains(s, ":") {
		switch {
		case len(s) == 2*keys.KCVCMAC.Bytes():
			s = keys.KCVCMAC.String() + ":" + s
		case a.IsAES():
			return keys.CheckValue{}, exit.With(exit.Usage, errors.New("the check value of an AES key does not say its kind"), "write legacy: or cmac-short: before 6 digits")
		default:
			s = a.CheckValueKind().String() + ":" + s
		}
	}
	v, err := keys.ParseCheckValue(s)
	if err == nil && !v.Kind.Fits(a) {
		err = fmt.Errorf("%v keys have no check value of kind %v", a, v.Kind)
	}
	return v, exit.With(exit.Usage, err, hint)
}

// combine gets one component after the other and makes the key.
func (r *combination) combine(c *console) (keys.Key, []keys.Sheet, error) {
	var sheets []keys.Sheet
	defer func() { wipeSheets(sheets) }() // what is public about them stays
	for i := range r.count {
		s, err := r.component(c, i)
		if err != nil {
			return keys.Key{}, nil, componentRefused(err)
		}
		sheets = append(sheets, s)
		if err := s.Verify(r.p); err != nil {
			return keys.Key{}, nil, componentRefused(err)
		}
		c.note("component %d of %d: check value %v is right", s.Number, s.Of, s.CheckValue)
	}
	k, err := keys.Combine(r.attributes, r.p, sheets)
	if err == nil && !r.whole.IsZero() {
		if err = k.Verify(r.whole); err != nil {
			k.Wipe()
			err = fmt.Errorf("the key of these components: %w", err)
		}
	}
	return k, sheets, componentRefused(err)
}

// component reads one: from its file, or from whoever types it.
func (r *combination) component(c *console, i int) (keys.Sheet, error) {
	path, what := "", fmt.Sprintf("component %d of %d", i+1, r.count)
	if len(r.files) > 0 {
		path = r.files[i]
	}
	text, err := c.secret(path, "--component-file", what)
	if err != nil {
		return keys.Sheet{}, err
	}
	defer text.Wipe()
	if bytes.Contains(text.Expose(), []byte("\n")) {
		if len(r.expected) > 0 {
			return keys.Sheet{}, exit.With(exit.Usage, fmt.Errorf("%s has a check value", what), "leave --kcv out: the files have it")
		}
		s, err := keys.ParseSheet(text.Expose())
		return s, prefixed(what, err)
	}
	s := keys.Sheet{Number: i + 1, Of: r.count}
	if s.Component, err = keys.ParseComponent(r.attributes.Algorithm, text.Expose()); err != nil {
		return keys.Sheet{}, prefixed(what, err)
	}
	if s.CheckValue, err = r.checkValue(c, i, path); err != nil {
		s.Wipe()
		return keys.Sheet{}, err
	}
	return s, nil
}

// checkValue returns what a component without a sheet is held to. Who types it types that too.
func (r *combination) checkValue(c *console, i int, path string) (keys.CheckValue, error) {
	if len(r.expected) > 0 {
		return r.expected[i], nil
	}
	what := fmt.Sprintf("check value of component %d", i+1)
	if path != "" {
		return keys.CheckValue{}, exit.With(exit.Usage, fmt.Errorf("%s is missing", what), "give --kcv for each component, in their order")
	}
	text, err := c.secret("", "--kcv", what)
	if err != nil {
		return keys.CheckValue{}, err
	}
	defer text.Wipe()
	return parseKCV(r.attributes.Algorithm, string(text.Expose()))
}

func prefixed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

const weakHint = "draw another key: latchkey key components split"

// componentRefused gives the errors of package keys their exit codes.
func componentRefused(err error) error {
	if _, coded := errors.AsType[*exit.Error](err); coded || err == nil {
		return err
	}
	err, _ = exit.Explain(err,
		exit.When(keys.ErrCheckValue, exit.Verification, "compare it with the sheet, digit by digit; nothing was kept"),
		exit.When(keys.ErrParity, exit.Verification, "compare it with the sheet; --parity adjusted takes components of any parity"),
		exit.When(keys.ErrComponents, exit.Refused, "bring all components of one key, each once"),
		exit.When(keys.ErrDependent, exit.Refused, "components are drawn at random, each by itself: latchkey key components split"),
		exit.When(keys.ErrWeak, exit.Refused, weakHint),
		exit.When(keys.ErrSyntax, exit.Usage, "a component has digits in groups of four or without spaces, or is a file that split wrote"),
		exit.When(keys.ErrLength, exit.Usage, "every component is as long as the key: 32 digits for 16 bytes, 48 for 24, 64 for 32; see --algorithm"),
	)
	return err
}

// listedCheck is what check says about one component.
type listedCheck struct {
	Number        int      `json:"number"`
	Of            int      `json:"of"`
	Algorithm     string   `json:"algorithm"`
	CheckValues   []string `json:"checkValues"`
	KeyCheckValue string   `json:"keyCheckValue,omitempty"`
}

func newComponentsCheck(c *console) *cobra.Command {
	var file, parity string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Hold one component to its check value, without the others",
		Long: `Check reads one file of split and compares the component with the check value that stands beside it: what a
custodian does alone, on receipt and before every use. It shows check values of all kinds, to compare with
other systems, and the one of the key; the component itself is not shown.`,
		Example: "  latchkey key components check --component-file /media/anna/bdk-1",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			p, err := keys.ParseParity(parity)
			if err == nil && p == keys.ParityAdjusted {
				err = errors.New("check adjusts nothing")
			}
			if err != nil {
				return exit.With(exit.Usage, err, "--parity is required or ignored")
			}
			text, err := c.secret(file, "--component-file", "component")
			if err != nil {
				return err
			}
			defer text.Wipe()
			s, err := keys.ParseSheet(text.Expose())
			if err != nil {
				return componentRefused(err)
			}
			defer s.Wipe()
			if err := s.Verify(p); err != nil {
				return componentRefused(err)
			}
			l := listedCheck{Number: s.Number, Of: s.Of, Algorithm: s.Component.Algorithm().String(), KeyCheckValue: s.KeyCheckValue.String()}
			values, err := checkValues(s.Component.Algorithm(), s.Component)
			if err != nil {
				return err
			}
			l.CheckValues = texts(values)
			fields := []field{
				{"component", fmt.Sprintf("%d of %d", l.Number, l.Of)}, {"algorithm", l.Algorithm}, {"component KCV", strings.Join(l.CheckValues, " ")},
			}
			if l.KeyCheckValue != "" {
				fields = append(fields, field{"key KCV", l.KeyCheckValue})
			}
			return c.show(l, fields...)
		},
	}
	cmd.Flags().StringVar(&file, "component-file", "", "file with one component, as split wrote it")
	cmd.Flags().StringVar(&parity, "parity", "ignored", "of TDES: required or ignored")
	required(cmd, "component-file")
	return cmd
}
