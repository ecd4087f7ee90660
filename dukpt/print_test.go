package dukpt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// checkPrints prints v in every likely way and looks for eight bytes of each secret in every likely form.
func checkPrints(t *testing.T, name string, v any, secrets [][]byte) {
	t.Helper()
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	var text bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "v", v)
	j, err := json.Marshal(v)
	fmt.Fprintln(&out, text.String(), string(j), err)
	printed := out.String()
	for _, s := range secrets {
		part := s[:8]
		for _, form := range []string{
			string(part), strings.Trim(fmt.Sprint(part), "[]"), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
			base64.StdEncoding.EncodeToString(s)[:10], strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"),
		} {
			if strings.Contains(printed, form) {
				t.Errorf("%s prints a key as %q", name, form)
			}
		}
	}
}

// TestTerminalPrints looks for keys in what a terminal and its parts print.
func TestTerminalPrints(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		term := b.terminal(t)
		if err := term.Reserve(2, discard); err != nil {
			t.Fatal(err)
		}
		tx := NewTransaction()
		if err := term.Next(tx); err != nil {
			t.Fatal(err)
		}
		host, err := b.base.Begin(tx.KSN())
		if err != nil {
			t.Fatal(err)
		}
		ik, err := b.base.Derive(b.id)
		if err != nil {
			t.Fatal(err)
		}
		var secrets [][]byte
		secrets = append(secrets, b.bdk, tx.s.key(), ik.key.Material().Expose(), term.reservedKey(1))
		for i := range b.id.Scheme().counterBits() {
			if term.node(i) != 0 {
				secrets = append(secrets, term.at(i))
			}
		}
		path, seeker := b.base.NewPath(), NewHostTransaction()
		if err := path.Seek(seeker, tx.KSN()); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, path.key(0), path.key(1))
		for _, v := range []any{b.base, ik, term, tx, host, path, seeker, PINTarget{Key: ik.key}} {
			checkPrints(t, fmt.Sprintf("%s %T", b.name, v), v, secrets)
		}
	}
}
