package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// fleetFlags say which list is registered, and how.
type fleetFlags struct {
	file, results      string
	skip, check, short bool
	life               time.Duration
	slots, endpoints   []string // of lines that do not say them
	imports            bool     // terminals with keys from elsewhere, which get no codes
	codes              bool     // terminals that are registered, which get codes
}

// action is what has to be approved of the list, and its words for people.
func (f *fleetFlags) action() (_ provision.Action, verb, done string) {
	switch {
	case f.imports:
		return provision.ActionImport, "import", "imported"
	case f.codes:
		return provision.ActionCodes, "code", "given a code"
	}
	return provision.ActionFleet, "register", "registered"
}

func (f *fleetFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.listFlags(cmd)
	fl.BoolVar(&f.short, "short", false, "of a list: codes of 12 characters and a check character instead of 26")
	fl.DurationVar(&f.life, "life", maxLife, "of a list: how long the codes are good for, 1m to 24h")
}

// listFlags are those of every list.
func (f *fleetFlags) listFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "file", "", "list of terminals, comma-separated values; --slot and --endpoint are for lines that do not say theirs")
	fl.StringVar(&f.results, "results-file", "", "of a list: file for what became of each terminal (mode 0600), to go on from; default: the name of the list and .results")
	fl.BoolVar(&f.skip, "skip-bad", false, "of a list: leave out lines that are wrong, and terminals that the registry refuses")
	fl.BoolVar(&f.check, "check", false, "of a list: only say what is wrong with it, and its digest")
}

// goesOn is the next step after a run that did not come to its end.
const goesOn = "run the same command again: it goes on where it was, with the same codes"

// fleetRun registers a list.
type fleetRun struct {
	fleetFlags
	c       *console
	client  *admin.Client
	entries []fleet.Entry
	wrong   int // lines
	results *fleet.Results
}

// registerFleet reads a list, and registers it unless only that was wanted.
func (r *registry) registerFleet(ctx context.Context, c *console, f fleetFlags) (err error) {
	if !f.imports && (f.life < minLife || f.life > maxLife || f.life%time.Second != 0) {
		return exit.With(exit.Usage, fmt.Errorf("--life %v", f.life), "want 1m to 24h, in whole seconds")
	}
	if f.results == "" {
		f.results = f.file + ".results"
	}
	run := &fleetRun{fleetFlags: f, c: c}
	if err := run.read(); err != nil {
		return err
	}
	if f.check {
		return run.show(nil)
	}
	return r.session(ctx, func(ctx context.Context, client *admin.Client) error {
		run.client = client
		return run.run(ctx)
	})
}

// read reads the list and tells every line that is wrong.
func (f *fleetRun) read() error {
	d := fleet.Defaults{Import: f.imports}
	_, verb, done := f.action()
	var err error
	if len(f.slots) > 0 {
		if d.Slots, err = fleet.ParseSlots(f.slots); err != nil {
			return exit.With(exit.Usage, fmt.Errorf("--slot: %w", err), "as in: --slot 1=DATA-1")
		}
	}
	if d.Endpoints = f.endpoints; len(f.endpoints) > 0 {
		if err := checkEndpoints(f.endpoints); err != nil {
			return err
		}
	}
	if f.codes { // what else the list says is of no interest here
		d.Slots, d.Endpoints = []provision.SlotAssignment{{Slot: 1, KeySet: "X"}}, []string{"https://localhost"}
	}
	file, err := os.Open(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return exit.With(exit.NotFound, err, "name the list with --file")
	}
	if err != nil {
		return err
	}
	defer file.Close() // only read
	entries, faults, err := fleet.Parse(file, d)
	if err != nil {
		return exit.With(exit.Usage, fmt.Errorf("%s: %w", f.file, err), "see: latchkey terminal "+verb+" --help")
	}
	for _, fault := range faults {
		f.c.note("%s: line %d: %s", f.file, fault.Line, fault.Reason)
	}
	if len(faults) > 0 && !f.skip {
		return exit.With(exit.Refused, fmt.Errorf("%s: %d lines are wrong, %d are right; nothing was %s", f.file, len(faults), len(entries), done),
			"mend them, or leave them out with --skip-bad")
	}
	if len(entries) == 0 {
		return exit.With(exit.Refused, fmt.Errorf("%s: there is nobody to %s", f.file, verb), "each line behind the first is a terminal")
	}
	if f.codes {
		for i := range entries {
			entries[i].Registration = provision.Registration{Terminal: entries[i].Terminal}
		}
	}
	f.entries, f.wrong = entries, len(faults)
	return nil
}

// parts are the registrations of the list, as they are approved and sent.
func (f *fleetRun) parts() [][]fleet.Entry {
	kept := f.entries
	if f.results != nil {
		kept = slices.DeleteFunc(slices.Clone(kept), func(e fleet.Entry) bool { return f.results.Left(e.Terminal) })
	}
	return slices.Collect(slices.Chunk(kept, provision.MaxPart))
}

// operation is what has to be approved of parts.
func (f *fleetRun) operation(parts [][]fleet.Entry) (admin.Operation, provision.Digest, error) {
	action, _, _ := f.action()
	op := admin.Operation{Action: string(action)}
	if !f.imports {
		op.Short, op.Lifetime = f.short, int64(f.life/time.Second)
	}
	var all provision.Operation
	for _, p := range parts {
		op.Total += len(p)
		var part []provision.Registration
		for _, e := range p {
			part = append(part, e.Registration)
		}
		d, err := provision.PartDigest(part)
		if err != nil {
			return op, provision.Digest{}, err
		}
		op.Parts, all.Parts = append(op.Parts, d.String()), append(all.Parts, d)
	}
	return op, all.Digest(), nil
}

// run goes through the list, or on with it.
func (f *fleetRun) run(ctx context.Context) (err error) {
	if err := f.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.results.Close()) }()
	parts := f.parts()
	op, digest, err := f.operation(parts)
	if err != nil {
		return err
	}
	h := f.results.Head()
	if h.Digest != digest || h.Total != op.Total || h.Short != op.Short || h.Life != op.Lifetime || h.Import != f.imports {
		return exit.With(exit.Refused, fmt.Errorf("%s has the results of another list, or of other flags", f.fleetFlags.results),
			"name another file with --results-file, or take the list and the flags of before")
	}
	if f.results.Approval() == "" {
		if waits, err := f.approve(ctx, op, digest); waits || err != nil {
			return err
		}
	}
	if err := f.enlist(ctx, parts); err != nil {
		return err
	}
	return f.show(parts)
}

// open goes on with results that are there, or begins them. Before anything is asked for, every terminal is looked at.
func (f *fleetRun) open(ctx context.Context) error {
	path := f.fleetFlags.results
	r, err := fleet.Open(path)
	switch {
	case err == nil:
		f.results = r
		f.c.note("going on with %s", path)
		return nil
	case errors.Is(err, fleet.ErrExposed):
		return exit.With(exit.Refused, err, "one-time codes stand in it: find out who has read them, then chmod 600 "+path)
	case errors.Is(err, fleet.ErrResults):
		return exit.With(exit.Refused, err, "name another file with --results-file")
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	left, err := f.look(ctx)
	if err == nil {
		err = f.refuses(left)
	}
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(f.entries), func(e fleet.Entry) bool {
		return slices.ContainsFunc(left, func(r fleet.Result) bool { return r.Terminal == e.Terminal })
	})
	if len(kept) == 0 {
		_, _, done := f.action()
		return exit.With(exit.Refused, fmt.Errorf("nobody is left to be %s", done), "")
	}
	op, digest, err := f.operation(slices.Collect(slices.Chunk(kept, provision.MaxPart)))
	if err != nil {
		return err
	}
	head := fleet.Head{Digest: digest, Total: op.Total, Short: op.Short, Life: op.Lifetime, Import: f.imports}
	if !f.imports {
		seed := make([]byte, provision.SeedSize)
		_, _ = rand.Read(seed) // cannot fail
		head.Seed = hex.EncodeToString(seed)
	}
	f.results, err = fleet.Create(path, head, left)
	return err
}

// look has the registry say which terminals it would refuse.
func (f *fleetRun) look(ctx context.Context) (left []fleet.Result, _ error) {
	bar, seen := newBar(f.c.stderr, "looking"), 0
	defer bar.end()
	for part := range slices.Chunk(f.entries, provision.MaxPart) {
		all, err := f.send(ctx, admin.Part{Dry: true}, part)
		if err != nil {
			return nil, err
		}
		for i, one := range all {
			if one.Code != "" {
				left = append(left, resultOf(part[i], one))
			}
		}
		seen += len(part)
		bar.show(seen, len(f.entries))
	}
	return left, nil
}

// refuses tells which terminals the registry would refuse. They are left out, if that is wanted.
func (f *fleetRun) refuses(left []fleet.Result) error {
	for _, l := range left {
		f.c.note("%s: line %d: %s: %s", f.file, l.Line, l.Code, l.Message)
	}
	if len(left) > 0 && !f.skip {
		_, _, done := f.action()
		return exit.With(exit.Refused, fmt.Errorf("%s: the registry refuses %d terminals of %d; nothing was %s", f.file, len(left), len(f.entries), done),
			"take them out of the list, or leave them out with --skip-bad")
	}
	return nil
}

// send sends a part.
func (f *fleetRun) send(ctx context.Context, p admin.Part, entries []fleet.Entry) ([]admin.Enlisted, error) {
	for _, e := range entries {
		one := admin.Registration{Terminal: string(e.Terminal), Endpoints: e.Endpoints, Group: string(e.Group)}
		for _, s := range e.Slots {
			one.Slots = append(one.Slots, admin.SlotAssignment{Slot: s.Slot, KeySet: string(s.KeySet)})
		}
		for _, l := range e.Labels {
			one.Labels = append(one.Labels, admin.Label(l))
		}
		for _, k := range e.Keys {
			one.Keys = append(one.Keys, admin.InjectedKey{Slot: k.Slot, KeyID: k.KeyID.String(), Counter: &k.Counter})
		}
		p.All = append(p.All, one)
	}
	p.Codes = f.codes
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	return f.client.Enlist(ctx, p)
}

func resultOf(e fleet.Entry, one admin.Enlisted) fleet.Result {
	return fleet.Result{Line: e.Line, Terminal: e.Terminal, Code: one.Code, Message: one.Message, Ticket: one.Ticket, Expires: one.Expires}
}

// approve asks for leave to register the list, and reports whether that waits for a second person.
func (f *fleetRun) approve(ctx context.Context, op admin.Operation, digest provision.Digest) (waits bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	out, err := f.client.Do(ctx, op)
	if err != nil {
		return false, err
	}
	if out.Approval == nil {
		return false, f.results.Approve(out.Granted)
	}
	if err := f.results.Approve(out.Approval.ID); err != nil {
		return false, err
	}
	_, verb, _ := f.action()
	f.c.note("next: another operator compares the digest with that of latchkey terminal %s --file %s --check, runs: latchkey approve %s, and you this command again",
		verb, f.file, out.Approval.ID)
	return true, f.c.show(members{out}, field{"waits for approval", out.Approval.ID}, field{"operation", op.Action},
		field{"terminals", op.Total}, field{"digest", digest}, field{"until", moment(out.Approval.Expires)})
}

// enlist registers what has no result yet.
func (f *fleetRun) enlist(ctx context.Context, parts [][]fleet.Entry) error {
	label := "registering"
	switch {
	case f.imports:
		label = "importing"
	case f.codes:
		label = "making codes"
	}
	bar, total, sent := newBar(f.c.stderr, label), f.results.Head().Total, 0
	defer bar.end()
	for _, part := range parts {
		bar.show(sent, total)
		sent += len(part)
		done := func(e fleet.Entry) bool { _, ok := f.results.Done(e.Terminal); return ok }
		if !slices.ContainsFunc(part, func(e fleet.Entry) bool { return !done(e) }) {
			continue
		}
		all, err := f.send(ctx, admin.Part{Approval: f.results.Approval(), Seed: f.results.Head().Seed}, part)
		if err != nil {
			return unfinished(err, f.fleetFlags.results)
		}
		var news []fleet.Result
		for i, one := range all {
			if !done(part[i]) {
				news = append(news, resultOf(part[i], one))
			}
		}
		if err := f.results.Append(news); err != nil {
			return err
		}
	}
	bar.show(sent, total)
	return nil
}

// unfinished says how to go on after an error in the middle of a list.
func unfinished(err error, results string) error {
	refusal, ok := errors.AsType[*admin.Error](err)
	switch {
	case ok && refusal.Code == string(provision.CodeApprovalSettled):
		return exit.With(exit.Refused, err, "the approval is too old: move "+results+" away and ask again; terminals that are registered will be told apart")
	case ok && refusal.Status < 500:
		return answered(err)
	}
	return exit.With(exit.CodeOf(answered(err)), err, goesOn)
}

// counts is what became of a list.
type counts struct {
	List       string `json:"list"` // digest
	Terminals  int    `json:"terminals"`
	Registered int    `json:"registered"` // or imported, or given a code
	Refused    int    `json:"refused"`
	LeftOut    int    `json:"leftOut"` // lines that were wrong, and terminals that the registry refused before
	Results    string `json:"results,omitempty"`
}

// show says what became of the list; of one that was only checked, what is in it.
func (f *fleetRun) show(parts [][]fleet.Entry) error {
	checked := f.results == nil
	if checked {
		parts = f.parts()
	}
	op, digest, err := f.operation(parts)
	if err != nil {
		return err
	}
	n := counts{List: digest.String(), Terminals: op.Total, LeftOut: f.wrong + len(f.entries) - op.Total}
	if checked {
		return f.c.show(n, field{"list", n.List}, field{"terminals", n.Terminals}, field{"left out", n.LeftOut}, field{"groups", groupsOf(parts)})
	}
	for _, part := range parts {
		for _, e := range part {
			if one, ok := f.results.Done(e.Terminal); ok && (one.Code == "" || one.Code == string(provision.CodeOneTimeCodeSpent)) {
				n.Registered++
			}
		}
	}
	n.Refused, n.Results = n.Terminals-n.Registered, f.fleetFlags.results
	_, _, done := f.action()
	what, refused := "tickets", fmt.Sprintf("%d terminals were not registered, or have no code that is good", n.Refused)
	switch {
	case f.codes:
		refused = fmt.Sprintf("%d terminals have no code that is good", n.Refused)
	case f.imports:
		what, refused = "results", fmt.Sprintf("%d terminals were not imported", n.Refused)
	}
	if err := f.c.show(n, field{"list", n.List}, field{done, n.Registered}, field{"refused", n.Refused}, field{"left out", n.LeftOut},
		field{what, "in " + n.Results}); err != nil {
		return err
	}
	if n.Refused > 0 {
		return exit.With(exit.Refused, errors.New(refused), "the reasons are in "+n.Results)
	}
	return nil
}

func groupsOf(parts [][]fleet.Entry) int {
	groups := make(map[provision.Group]bool)
	for _, part := range parts {
		for _, e := range part {
			if e.Group != "" {
				groups[e.Group] = true
			}
		}
	}
	return len(groups)
}
