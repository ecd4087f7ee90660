package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/sample"
)

// keep closes the terminals, whose folders others may then use, and waits.
func (s *story) keep(ctx context.Context) error {
	for _, t := range s.tills {
		if err := t.terminal.Close(); err != nil {
			return err
		}
	}
	s.out.step(len(s.steps())+1, "everything keeps running until you press Ctrl-C; in another window:")
	if self, err := os.Executable(); err == nil {
		s.out.line("export PATH=%s:$PATH", filepath.Dir(self))
	}
	for _, line := range s.commands() {
		s.out.line("%s", line)
	}
	<-ctx.Done()
	return nil
}

// commands are what somebody may type while everything runs: what works first, and last what the stolen terminal is told.
func (s *story) commands() []string {
	const next = "T-NEXT"
	pass := "--dir " + s.dir + " --passphrase-file " + s.passphrase
	registry := "--server " + s.servicesURL + " " + pass
	sell := func(folder string) string {
		return "latchkey-terminal sale --dir " + folder + " --amount 12.34 --pan-file <(echo 4111111111111111)"
	}
	stolen, works, spare := s.boxes[0], s.boxes[1], s.boxes[2]
	data, pins := sample.KeySet(dukpt.AES, sample.DataSlot), sample.KeySet(dukpt.AES, sample.PINSlot)
	folder := filepath.Join(s.root, next)
	return append(s.tokenCommands(), []string{
		"# " + string(works.name) + " sells",
		sell(works.folder),
		"latchkey-terminal status --dir " + works.folder,
		"latchkey terminal list " + registry,
		"latchkey terminal show " + string(works.name) + " " + registry,
		"latchkey cert list " + registry,
		"# " + string(spare.name) + " has enrolled and never signed in, so it is pending: its first sign-in makes it active",
		"latchkey-terminal signin --dir " + spare.folder,
		"# a further terminal, from its registration to its first sale",
		fmt.Sprintf("latchkey terminal register --id %s --slot %d=%s --slot %d=%s --endpoint %s %s",
			next, sample.DataSlot, data, sample.PINSlot, pins, s.url, registry),
		fmt.Sprintf("latchkey terminal code %s --ticket-file %s.ticket %s", next, folder, registry),
		fmt.Sprintf("latchkey-terminal enrol --dir %s --tenant %s --terminal %s --url %s --trust-url %s --ticket-file %[1]s.ticket",
			folder, demoTenant, next, s.raURL, s.publicationURL),
		sell(folder),
		"# what the services say",
		fmt.Sprintf("latchkey audit verify --database %s --key-file %s --checkpoint %s", s.database,
			filepath.Join(s.dir, "audit", "checkpoint.pub"), filepath.Join(s.root, checkpointFile)),
		"curl -s http://" + s.service.Admin + "/metrics | grep latchkey_",
		"# a blocked key set: sales are HELD until it is active again",
		fmt.Sprintf("latchkey keyset state %s blocked %s", data, pass),
		fmt.Sprintf("latchkey keyset state %s active %s", data, pass),
		"# " + string(stolen.name) + " is refused: it was stolen",
		sell(stolen.folder),
	}...)
}

// tokenCommands are those that need the tokens, and what lets other programs find them.
func (s *story) tokenCommands() []string {
	if s.site.tokens == nil {
		return nil
	}
	out := []string{"# the tokens of the hosts", "export SOFTHSM2_CONF=" + s.tokens.configuration()}
	for _, name := range []string{keydToken, decryptdToken} {
		out = append(out, fmt.Sprintf("latchkey-hsm hsm probe --hsm '%s' --pin-file %s", s.tokens.uri(name), s.tokens.pinFile(name)))
	}
	return out
}
