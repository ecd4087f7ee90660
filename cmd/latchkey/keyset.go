package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newKeySet(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("keyset", "Key sets: what a family of terminal keys may be used for",
		newKeySetCreate(c, f), newKeySetList(c, f), newKeySetState(c, f), newKeySetPINKeys(c, f))
	f.flags(cmd)
	return cmd
}

// kinds are the key sets that keyset create starts from.
var kinds = map[string]func() *keyset.KeySet{
	"tdes-pin":  keyset.NewTDESPIN,
	"tdes-data": keyset.NewTDESData,
	"aes-pin":   keyset.NewAESPIN,
	"aes-data":  keyset.NewAESData,
}

func kindNames() string { return strings.Join(slices.Sorted(maps.Keys(kinds)), ", ") }

type listedSet struct {
	ID          string     `json:"id"`
	Revision    uint       `json:"revision"`
	Scheme      string     `json:"scheme"`
	Algorithm   string     `json:"algorithm"`
	Usages      []string   `json:"usages"`
	BaseKey     string     `json:"baseKey"`
	FirstID     string     `json:"firstId"`
	LastID      string     `json:"lastId"`
	PINKeys     []string   `json:"pinKeys,omitempty"`
	MAC         *listedMAC `json:"mac,omitempty"` // nil: the set makes none
	Environment string     `json:"environment"`
	Delivery    string     `json:"delivery"`
	State       string     `json:"state"`
}

func listSet(s *keyset.KeySet) listedSet {
	l := listedSet{
		ID: string(s.ID), Revision: s.Revision, Scheme: s.Scheme.String(), Algorithm: s.Algorithm.String(),
		BaseKey: s.BaseKey.String(), FirstID: s.FirstID.String(), LastID: s.LastID.String(), MAC: listMAC(s),
		Environment: s.Environment.String(), Delivery: s.Delivery.String(), State: s.State.String(),
	}
	for _, u := range s.Usages {
		l.Usages = append(l.Usages, u.String())
	}
	for _, k := range s.OutgoingPINKeys {
		l.PINKeys = append(l.PINKeys, k.String())
	}
	return l
}

func showSet(c *console, s *keyset.KeySet) error {
	l := listSet(s)
	return c.show(l, field{"id", l.ID}, field{"revision", l.Revision}, field{"scheme", l.Scheme}, field{"algorithm", l.Algorithm},
		field{"usages", strings.Join(l.Usages, ", ")}, field{"base key", l.BaseKey}, field{"key ids", l.FirstID + " to " + l.LastID},
		field{"PIN keys", strings.Join(l.PINKeys, ", ")}, field{"MAC", spellMAC(l.MAC)}, field{"environment", l.Environment}, field{"delivery", l.Delivery}, field{"state", l.State})
}

// setRequest is what keyset create asks for.
type setRequest struct {
	id, kind, baseKey, first, last, profile, delivery string

	pinKeys []string
	mac     macRequest
}

func newKeySetCreate(c *console, f *folder) *cobra.Command {
	var r setRequest
	e := &element{c: c}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make and sign a key set",
		Long: `Create makes a key set: which base key, which range of key ids, which purposes. It starts from one of
the usual kinds (` + kindNames() + `), is signed by the people named with --as, and takes effect
when the decryption service next looks, within a second.

Its MACs are those that new systems use, at full length. --mac, --mac-padding and --mac-length choose
others: under TDES ISO9797_ALGORITHM3 with method1 to method3, ISO9797_ALGORITHM1 with method3, and CMAC;
under AES CMAC and HMAC_SHA256 (16 bytes).

With --hsm the base key is one of a token, and in no keyring: the fingerprint in the set is the one that it has there.

What a key set is for never changes; its state does (keyset state), and where its PINs may go (keyset pin-keys).`,
		Example: `  latchkey keyset create --id PIN-1 --kind aes-pin --base-key alias/bdk-1 \
    --first 1234567800000001 --last 12345678000FFFFF --pin-key alias/zone-1`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := r.build()
			if err != nil {
				return err
			}
			var inToken []engine.KeyInfo
			if e.uri != "" {
				err := e.with(cmd.Context(), func(t *hsm.Token) (err error) {
					inToken, err = t.Keys(cmd.Context())
					return err
				})
				if err != nil {
					return err
				}
			}
			return f.with(func(d *deploy.Deployment) error {
				if err := newSet(d, r.id); err != nil {
					return err
				}
				if err := r.bind(d, s, e.uri != "", inToken); err != nil {
					return err
				}
				if err := f.saveSet(d, s, inToken...); err != nil {
					return err
				}
				if s.Has(keyset.UsagePIN) && len(s.OutgoingPINKeys) == 0 {
					c.note("warning: --pin-key is missing: PINs of this set cannot be translated until a new revision names a zone key: latchkey keyset pin-keys %s", s.ID)
				}
				return showSet(c, s)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.id, "id", "", "name of the key set, 1 to 32 of A-Z 0-9 -")
	fl.StringVar(&r.kind, "kind", "", "one of "+kindNames())
	fl.StringVar(&r.baseKey, "base-key", "", "name of the base derivation key: alias/…")
	fl.StringVar(&r.first, "first", "", "first key id (TDES 20 hexadecimal digits with counter 0, AES 16)")
	fl.StringVar(&r.last, "last", "", "last key id")
	fl.StringVar(&r.profile, "profile", "", "TDES card data: how the maker's readers use the key")
	fl.StringVar(&r.delivery, "delivery", "", "how initial keys reach terminals: attested, code (test only) or none (bundles); default: code in test, attested in production")
	fl.StringSliceVar(&r.pinKeys, "pin-key", nil, "zone keys that PINs may be translated to: alias/…")
	fl.StringVar(&r.mac.algorithm, "mac", "", "algorithm of the MACs, as in CMAC; default: ISO9797_ALGORITHM3 (TDES), CMAC (AES)")
	fl.StringVar(&r.mac.padding, "mac-padding", "", "padding of ISO9797_ALGORITHM3 or ISO9797_ALGORITHM1: method1, method2 or method3")
	fl.IntVar(&r.mac.length, "mac-length", 0, "bytes that are kept of a MAC; default: a block")
	required(cmd, "id", "kind", "base-key", "first", "last")
	f.signs(cmd)
	e.flags(cmd)
	return cmd
}

// newSet refuses the id of a set that exists.
func newSet(d *deploy.Deployment, id string) error {
	_, err := findSet(d, id)
	if exit.CodeOf(err) == exit.NotFound {
		return nil
	}
	if err == nil {
		err = exit.With(exit.Refused, fmt.Errorf("%s exists", id), "choose another id, or keyset state")
	}
	return err
}

// build makes of the request what can be made without the deployment.
func (r setRequest) build() (*keyset.KeySet, error) {
	start, ok := kinds[r.kind]
	if !ok {
		return nil, exit.With(exit.Usage, fmt.Errorf("kind %q is not known", r.kind), "the kinds are "+kindNames())
	}
	s := start()
	var err error
	if s.ID, err = keyset.ParseID(r.id); err != nil {
		return nil, exit.With(exit.Usage, err, "a key set has a name of 1 to 32 of A-Z, 0-9 and -")
	}
	if s.BaseKey, err = keyset.ParseKeyRef(r.baseKey); err != nil {
		return nil, exit.With(exit.Usage, err, "name the base key as latchkey key list does: alias/…")
	}
	if s.FirstID, err = dukpt.ParseKeyID(r.first); err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("--first: %w", err), keyIDForm)
	}
	if s.LastID, err = dukpt.ParseKeyID(r.last); err != nil {
		return nil, exit.With(exit.Usage, fmt.Errorf("--last: %w", err), keyIDForm)
	}
	if r.profile != "" {
		if s.Profile, err = keyset.ParseProfile(r.profile); err != nil {
			return nil, exit.With(exit.Usage, err, "leave --profile out unless the readers of a maker need it")
		}
	}
	if r.delivery != "" {
		if err := s.Delivery.UnmarshalText([]byte(r.delivery)); err != nil {
			return nil, exit.With(exit.Usage, err, "the deliveries are attested, code and none")
		}
	}
	if err := r.mac.apply(s); err != nil {
		return nil, err
	}
	s.OutgoingPINKeys, err = parsePINKeys(r.pinKeys)
	return s, err
}

const keyIDForm = "a key id has 20 hexadecimal digits with counter 0 for TDES, and 16 for AES"

// parsePINKeys reads names of zone keys.
func parsePINKeys(names []string) ([]keyset.KeyRef, error) {
	var out []keyset.KeyRef
	for _, name := range names {
		ref, err := keyset.ParseKeyRef(name)
		if err != nil {
			return nil, exit.With(exit.Usage, err, "name zone keys as latchkey key list does: alias/…")
		}
		out = append(out, ref)
	}
	return out, nil
}

// bind takes from the deployment, and from the token where the base key is in one, what the set must agree with.
func (r setRequest) bind(d *deploy.Deployment, s *keyset.KeySet, hsm bool, inToken []engine.KeyInfo) error {
	held, where := inToken, "latchkey key list --hsm"
	if !hsm {
		ring, err := d.Keyring()
		if err != nil {
			return err
		}
		held, where = ring.List(), "latchkey key list"
	}
	s.Tenant, s.Environment = d.Config().Tenant, d.Config().Environment
	if s.Environment == keyset.Production && r.delivery == "" {
		s.Delivery = keyset.Attested
	}
	for _, info := range held {
		if info.Ref != s.BaseKey {
			continue
		}
		if info.Attributes.Usage != keys.UsageBDK {
			return exit.With(exit.Refused, fmt.Errorf("%s is no base derivation key: its usage is %s", r.baseKey, info.Attributes.Usage),
				"make one with: latchkey key generate --usage B0")
		}
		s.Algorithm, s.BaseKeyFingerprint = info.Attributes.Algorithm, info.Fingerprint
		return nil
	}
	return exit.With(exit.NotFound, fmt.Errorf("there is no key %s", r.baseKey), "see: "+where)
}

func (f *folder) saveSet(d *deploy.Deployment, s *keyset.KeySet, inToken ...engine.KeyInfo) error {
	payload, err := keyset.Marshal(s)
	if err != nil {
		return refusedBy(err, "see docs/protocol.md, section 2")
	}
	doc, err := f.sign(d, keyset.KindKeySet, payload)
	if err != nil {
		return err
	}
	_, err = d.SaveKeySet(doc, inToken...)
	return refusedBy(err, "see docs/protocol.md, section 2")
}

func newKeySetList(c *console, f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the key sets",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			return f.with(func(d *deploy.Deployment) error {
				sets, err := d.KeySets()
				if err != nil {
					return err
				}
				list := []listedSet{}
				var rows [][]string
				for _, s := range sets {
					l := listSet(s)
					list = append(list, l)
					rows = append(rows, []string{l.ID, fmt.Sprint(l.Revision), l.Scheme, strings.Join(l.Usages, ","), l.BaseKey, l.FirstID, l.LastID, l.State})
				}
				return c.list(list, []string{"ID", "REVISION", "SCHEME", "USAGES", "BASE KEY", "FIRST KEY ID", "LAST KEY ID", "STATE"}, rows)
			})
		},
	}
}

func newKeySetState(c *console, f *folder) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state ID active|blocked|retired",
		Short: "Block, release or retire a key set",
		Long: `State signs a new revision of a key set in another state. Terminals of a blocked set are HELD: nothing new
is released, sign-in and what was answered before still work. A retired set never comes back.`,
		Args: arguments("ID", "STATE"),
		RunE: func(_ *cobra.Command, args []string) error {
			var state keyset.State
			if err := state.UnmarshalText([]byte(args[1])); err != nil {
				return exit.With(exit.Usage, err, "the states are active, blocked and retired")
			}
			return f.with(func(d *deploy.Deployment) error {
				s, err := findSet(d, args[0])
				if err != nil {
					return err
				}
				next := s.NextRevision()
				next.State = state
				return f.revise(d, s, next)
			})
		},
	}
	f.signs(cmd)
	return cmd
}

// revise signs the next revision of a set and shows it.
func (f *folder) revise(d *deploy.Deployment, s, next *keyset.KeySet) error {
	if err := keyset.CheckSuccessor(s, next); err != nil {
		return refusedBy(err, "a retired set never comes back: make another one")
	}
	if err := f.saveSet(d, next); err != nil {
		return err
	}
	return showSet(f.c, next)
}

func newKeySetPINKeys(c *console, f *folder) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pin-keys ID KEY…",
		Short: "Say which zone keys the PINs of a key set may be translated to",
		Long: `Pin-keys signs a new revision of a key set that names these zone keys and no others. The decryption service takes it
within a second; its callers must be allowed the key too (callers in decryptd.yaml).`,
		Example: "  latchkey keyset pin-keys PIN-1 alias/zone-1 alias/zone-2",
		Args: func(cmd *cobra.Command, args []string) error {
			return exit.With(exit.Usage, cobra.MinimumNArgs(2)(cmd, args), "usage: "+cmd.UseLine())
		},
		RunE: func(_ *cobra.Command, args []string) error {
			refs, err := parsePINKeys(args[1:])
			if err != nil {
				return err
			}
			return f.with(func(d *deploy.Deployment) error {
				s, err := findSet(d, args[0])
				if err != nil {
					return err
				}
				next := s.NextRevision()
				next.OutgoingPINKeys = refs
				return f.revise(d, s, next)
			})
		},
	}
	f.signs(cmd)
	return cmd
}

func findSet(d *deploy.Deployment, id string) (*keyset.KeySet, error) {
	sets, err := d.KeySets()
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if string(s.ID) == id {
			return s, nil
		}
	}
	return nil, exit.With(exit.NotFound, fmt.Errorf("there is no key set %q", id), "see: latchkey keyset list")
}
