package main

import (
	"slices"
	"strings"
	"testing"
)

// TestKeepCommands holds what the demonstration prints at its end to what it says: working terminals first, a further one from
// its registration to its first sale, the stolen one last, and every command of this program well formed.
func TestKeepCommands(t *testing.T) {
	t.Parallel()
	s := &story{
		root: "/demo",
		site: &site{
			dir: "/demo/deployment", passphrase: "/demo/passphrase", database: "/demo/decryptd.db",
			raURL: "https://127.0.0.1:1", servicesURL: "https://127.0.0.1:2", publicationURL: "http://127.0.0.1:3", url: "https://127.0.0.1:4",
		},
		boxes: []*boxed{{name: "T-TDES", folder: "/demo/T-TDES"}, {name: "T-AES", folder: "/demo/T-AES"}, {name: "T-SPARE", folder: "/demo/T-SPARE"}},
	}
	lines := s.commands()
	sales := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, "latchkey-terminal sale") })
	if len(sales) != 3 || !strings.Contains(sales[0], "/T-AES ") || !strings.Contains(sales[1], "/T-NEXT ") || !strings.Contains(sales[2], "/T-TDES ") {
		t.Errorf("sales %q", sales)
	}
	if last := lines[len(lines)-2:]; last[0] != "# T-TDES is refused: it was stolen" || last[1] != sales[2] {
		t.Errorf("the last lines are %q", last)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		"latchkey-terminal signin --dir /demo/T-SPARE",
		"latchkey terminal register --id T-NEXT --slot 1=AES-DATA --slot 2=AES-PIN --endpoint https://127.0.0.1:4 --server https://127.0.0.1:2 ",
		"latchkey terminal code T-NEXT --ticket-file /demo/T-NEXT.ticket --server https://127.0.0.1:2 ",
		"latchkey-terminal enrol --dir /demo/T-NEXT --tenant DEMO-SHOP --terminal T-NEXT --url https://127.0.0.1:1 --trust-url http://127.0.0.1:3 --ticket-file /demo/T-NEXT.ticket",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("it never says %q:\n%s", want, all)
		}
	}
	commands := 0
	for _, line := range lines {
		words := strings.Fields(line)
		if words[0] != "latchkey" {
			continue
		}
		commands++
		cmd, rest, err := newRoot(&console{}).Find(words[1:])
		if err != nil || !cmd.HasParent() || cmd.HasSubCommands() {
			t.Errorf("%s: no such command: %v", line, err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if err := cmd.ValidateRequiredFlags(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if commands < 6 {
		t.Errorf("%d commands", commands)
	}
}
