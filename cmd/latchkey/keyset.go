package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newKeySet(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("keyset", "Key sets: what a family of terminal keys may be used for",
		newKeySetCreate(c, f), newKeySetList(c, f), newKeySetState(c, f))
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
	ID          string   `json:"id"`
	Revision    uint     `json:"revision"`
	Scheme      string   `json:"scheme"`
	Algorithm   string   `json:"algorithm"`
	Usages      []string `json:"usages"`
	BaseKey     string   `json:"baseKey"`
	FirstID     string   `json:"firstId"`
	LastID      string   `json:"lastId"`
	PINKeys     []string `json:"pinKeys,omitempty"`
	Environment string   `json:"environment"`
	Delivery    string   `json:"delivery"`
	State       string   `json:"state"`
}

func listSet(s *keyset.KeySet) listedSet {
	l := listedSet{
		ID: string(s.ID), Revision: s.Revision, Scheme: s.Scheme.String(), Algorithm: s.Algorithm.String(),
		BaseKey: s.BaseKey.String(), FirstID: s.FirstID.String(), LastID: s.LastID.String(),
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
		field{"PIN keys", strings.Join(l.PINKeys, ", ")}, field{"environment", l.Environment}, field{"delivery", l.Delivery}, field{"state", l.State})
}

// setRequest is what keyset create asks for.
type setRequest struct {
	id, kind, baseKey, first, last, profile, delivery string

	pinKeys []string
}

func newKeySetCreate(c *console, f *folder) *cobra.Command {
	var r setRequest
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make and sign a key set",
		Long: `Create makes a key set: which base key, which range of key ids, which purposes. It starts from one of
the usual kinds (` + kindNames() + `), is signed by the people named with --as, and takes effect
when the decryption service next looks, within a second.

What a key set is for never changes; only its state does (keyset state).`,
		Example: `  latchkey keyset create --id PIN-1 --kind aes-pin --base-key alias/bdk-1 \
    --first 1234567800000001 --last 12345678000FFFFF --pin-key alias/zone-1`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			return f.with(func(d *deploy.Deployment) error {
				s, err := r.build(d)
				if err != nil {
					return err
				}
				if err := f.saveSet(d, s); err != nil {
					return err
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
	for _, required := range []string{"id", "kind", "base-key", "first", "last"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic("latchkey: " + err.Error())
		}
	}
	f.signs(cmd)
	return cmd
}

func (r setRequest) build(d *deploy.Deployment) (*keyset.KeySet, error) {
	start, ok := kinds[r.kind]
	if !ok {
		return nil, exit.Errorf(exit.Usage, "kind %q is none of %s", r.kind, kindNames())
	}
	s := start()
	var err error
	if s.ID, err = keyset.ParseID(r.id); err != nil {
		return nil, exit.With(exit.Usage, err, "")
	}
	if s.BaseKey, err = keyset.ParseKeyRef(r.baseKey); err != nil {
		return nil, exit.With(exit.Usage, err, "")
	}
	if s.FirstID, err = dukpt.ParseKeyID(r.first); err != nil {
		return nil, exit.With(exit.Usage, err, "")
	}
	if s.LastID, err = dukpt.ParseKeyID(r.last); err != nil {
		return nil, exit.With(exit.Usage, err, "")
	}
	if r.profile != "" {
		if s.Profile, err = keyset.ParseProfile(r.profile); err != nil {
			return nil, exit.With(exit.Usage, err, "")
		}
	}
	for _, name := range r.pinKeys {
		ref, err := keyset.ParseKeyRef(name)
		if err != nil {
			return nil, exit.With(exit.Usage, err, "")
		}
		s.OutgoingPINKeys = append(s.OutgoingPINKeys, ref)
	}
	return s, r.bind(d, s)
}

// bind takes from the deployment what the set must agree with.
func (r setRequest) bind(d *deploy.Deployment, s *keyset.KeySet) error {
	ring, err := d.Keyring()
	if err != nil {
		return err
	}
	s.Tenant, s.Environment = d.Config().Tenant, d.Config().Environment
	if s.Environment == keyset.Production {
		s.Delivery = keyset.Attested
	}
	if r.delivery != "" {
		if err := s.Delivery.UnmarshalText([]byte(r.delivery)); err != nil {
			return exit.With(exit.Usage, err, "the deliveries are attested, code and none")
		}
	}
	for _, info := range ring.List() {
		if info.Ref != s.BaseKey {
			continue
		}
		if info.Attributes.Usage != keys.UsageBDK {
			return exit.Errorf(exit.Refused, "%s is no base derivation key: its usage is %s", r.baseKey, info.Attributes.Usage)
		}
		s.Algorithm, s.BaseKeyFingerprint = info.Attributes.Algorithm, info.Fingerprint
		return nil
	}
	return exit.With(exit.NotFound, fmt.Errorf("there is no key %s", r.baseKey), "see: latchkey key list")
}

func (f *folder) saveSet(d *deploy.Deployment, s *keyset.KeySet) error {
	payload, err := keyset.Marshal(s)
	if err != nil {
		return refusedBy(err, "see docs/protocol.md, section 2")
	}
	doc, err := f.sign(d, keyset.KindKeySet, payload)
	if err != nil {
		return err
	}
	_, err = d.SaveKeySet(doc)
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
				if err := keyset.CheckSuccessor(s, next); err != nil {
					return refusedBy(err, "")
				}
				if err := f.saveSet(d, next); err != nil {
					return err
				}
				return showSet(c, next)
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
