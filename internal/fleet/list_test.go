package fleet_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

var defaults = fleet.Defaults{
	Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA-1"}}, Endpoints: []string{"https://localhost:8444"},
}

// TestBrokenLines has one line of each kind that is wrong, between two that are right.
func TestBrokenLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9000)
	for name, c := range map[string]struct{ line, want string }{
		"empty":                 {"", "the line is empty"},
		"a blank":               {" ", "a space at the beginning or the end"},
		"too few fields":        {"T-2,1=DATA-1", "2 fields, want 5"},
		"too many fields":       {"T-2,,,,,", "6 fields, want 5"},
		"another separator":     {"T-2;1=DATA-1;;;", "1 fields, want 5"},
		"no name":               {",1=DATA-1,,,", "terminal: want 1 to 32"},
		"a small name":          {"t-2,,,,", "terminal: want 1 to 32"},
		"a long name":           {strings.Repeat("T", 33) + ",,,,", "terminal: want 1 to 32"},
		"a space before":        {" T-2,,,,", "a space at the beginning or the end"},
		"a space behind":        {"T-2 ,,,,", "a space at the beginning or the end"},
		"a tab":                 {"T-2\t,,,,", "not a printable one of ASCII"},
		"a NUL":                 {"T-2\x00,,,,", "not a printable one of ASCII"},
		"an umlaut":             {"T-2,,,,city=K\u00f6ln", "not a printable one of ASCII"},
		"bytes of no text":      {"T-2,,,,city=\xff\xfe", "not a printable one of ASCII"},
		"a carriage return":     {"T-2,,\r,,", "not a printable one of ASCII"},
		"a quote inside":        {`T-"2,,,,`, "a quotation mark"},
		"a quote left open":     {`"T-2,,,,`, "a quotation mark"},
		"something after it":    {`"T-2"x,,,,`, "a quotation mark"},
		"too long":              {"T-2,,,," + long, "more than 8191 bytes"},
		"no number":             {"T-2,DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"slot 0":                {"T-2,0=DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"slot 17":               {"T-2,17=DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"slot 01":               {"T-2,01=DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"slot 300":              {"T-2,300=DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"a negative slot":       {"T-2,-1=DATA-1,,,", "slots: want NUMBER=KEYSET"},
		"no key set":            {"T-2,1=,,,", "slots: want NUMBER=KEYSET"},
		"a small key set":       {"T-2,1=data,,,", "slots: want NUMBER=KEYSET"},
		"a slot twice":          {"T-2,1=DATA-1;1=DATA-2,,,", "slots: slot 1 is there twice"},
		"a slot too many":       {"T-2,1=DATA-1;,,,", "slots: want NUMBER=KEYSET"},
		"no https":              {"T-2,,http://localhost:8444,,", "endpoint"},
		"no endpoint":           {"T-2,,nowhere,,", "endpoint"},
		"an endpoint with more": {"T-2,,https://user@localhost:8444/x,,", "endpoint"},
		"too many endpoints":    {"T-2,," + strings.TrimSuffix(strings.Repeat("https://a.example;", 17), ";") + ",,", "17 endpoints"},
		"a small group":         {"T-2,,,north,", "group: provision: a group has 1 to 32"},
		"a long group":          {"T-2,,," + strings.Repeat("G", 33) + ",", "group: provision: a group has 1 to 32"},
		"a label without value": {"T-2,,,,city", "labels: provision: a label is KEY=VALUE"},
		"a label with a capital": {
			"T-2,,,,City=Graz", "labels: provision: a label is KEY=VALUE",
		},
		"a label with a space":   {"T-2,,,,city= Graz", "labels: provision: a label is KEY=VALUE"},
		"a label with a comma":   {`T-2,,,,"city=Graz, Wien"`, "labels: provision: a label is KEY=VALUE"},
		"a label twice":          {"T-2,,,,a=1;a=2", "labels: provision: labels are ascending by key, each once"},
		"too many labels":        {"T-2,,,,a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1;j=1;k=1;l=1;m=1;n=1;o=1;p=1;q=1", "labels: provision: 17 labels"},
		"the name of line 1":     {"terminal,slots,endpoints,group,labels", "terminal: want 1 to 32"},
		"a formula":              {"=1+1,,,,", "terminal: want 1 to 32"},
		"a name that is there":   {"T-3,,,,", "T-3 is on line 4 too"},
		"a name there and wrong": {"T-3,0=X,,,", "slots: want NUMBER=KEYSET"},
	} {
		entries, faults, err := fleet.Parse(strings.NewReader("terminal,slots,endpoints,group,labels\nT-1,,,,\n"+c.line+"\nT-3,,,,\n"), defaults)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(faults) == 0 || faults[0].Line != 3 || !strings.Contains(faults[0].Reason, c.want) {
			t.Errorf("%s: faults %v, want line 3: %s", name, faults, c.want)
		}
		good := 2
		if strings.Contains(name, "there") {
			good = 1
			if len(faults) != 2 || faults[1] != (fleet.Fault{Line: 4, Reason: "T-3 is on line 3 too"}) {
				t.Errorf("%s: faults %v", name, faults)
			}
		}
		if len(entries) != good || entries[0].Terminal != "T-1" || entries[0].Line != 2 {
			t.Errorf("%s: %d entries", name, len(entries))
		}
	}
}

// TestNoList reads files that are no list at all.
func TestNoList(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "one word": "terminal", "no names": "T-1,1=DATA-1\n", "no terminal": "slots,group\n", "an unknown column": "terminal,price\n",
		"a column twice": "terminal,group,group\n", "a byte order mark": "\ufeffterminal,group\nT-1,\n", "an empty line": "\nterminal\n",
		"UTF-16": "t\x00e\x00", "capitals": "Terminal,Slots\n", "a space": "terminal, slots\n", "a line of names that is too long": strings.Repeat("x", 9000) + "\n",
		"too many": "terminal\n" + strings.Repeat("x\n", provision.MaxFleet+1),
	} {
		entries, _, err := fleet.Parse(strings.NewReader(text), defaults)
		if !errors.Is(err, fleet.ErrList) || entries != nil {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
	}
	broken := errors.New("broken")
	for _, text := range []string{"", "terminal\n", "terminal\nT-1\n" + strings.Repeat("x", 9000)} {
		_, _, err := fleet.Parse(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), defaults)
		if !errors.Is(err, broken) {
			t.Errorf("after %.20q: %v", text, err)
		}
	}
	_, faults, err := fleet.Parse(strings.NewReader("terminal\nT-1\nT-000"), defaults)
	if err != nil || len(faults) != 1 || faults[0] != (fleet.Fault{Line: 3, Reason: "the line does not end: was the file cut off?"}) {
		t.Errorf("cut off: %v, %v", faults, err)
	}
	for _, d := range []fleet.Defaults{{Slots: defaults.Slots}, {Endpoints: defaults.Endpoints}} {
		if _, faults, err := fleet.Parse(strings.NewReader("terminal\nT-1\n"), d); err != nil || len(faults) != 1 {
			t.Errorf("without defaults: %v, %v", faults, err)
		}
	}
}

// TestList reads what spreadsheets write.
func TestList(t *testing.T) {
	t.Parallel()
	entries, faults, err := fleet.Parse(strings.NewReader("group,terminal,labels,slots,endpoints\r\nNORTH,\"T-1\",\"model=P2;city=Graz \"\"Mitte\"\"\",2=PIN-1;1=DATA-2,\r\n"+
		",T-2,,,https://a.example;https://b.example:8444\r\n"), defaults)
	if err != nil || len(faults) != 0 || len(entries) != 2 {
		t.Fatalf("%v, %v, %v", entries, faults, err)
	}
	if got := fmt.Sprint(entries); got != `[{2 {T-1 [{1 DATA-2} {2 PIN-1}] [https://localhost:8444] NORTH [city=Graz "Mitte" model=P2] []}} `+
		`{3 {T-2 [{1 DATA-1}] [https://a.example https://b.example:8444]  [] []}}]` {
		t.Errorf("%s", got)
	}
}

// TestLongList reads ten thousand lines, ten of which are wrong.
func TestLongList(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("terminal,group\n")
	for i := range 10_000 {
		group := "G"
		if i%1000 == 500 {
			group = "g"
		}
		fmt.Fprintf(&b, "T-%05d,%s\n", i, group)
	}
	entries, faults, err := fleet.Parse(strings.NewReader(b.String()), defaults)
	if err != nil || len(entries) != 9_990 || len(faults) != 10 || faults[9].Line != 9502 {
		t.Errorf("%d entries, %v, %v", len(entries), faults, err)
	}
}

// FuzzList reads lists. Whatever comes, every line behind the first is an entry or a fault and not both, entries are right
// and each of another terminal, and a list of the entries reads as the same.
func FuzzList(f *testing.F) {
	f.Add("terminal,slots,endpoints,group,labels\nT-1,1=DATA-1;2=PIN-1,https://a.example:1;https://b.example,NORTH,a=1;b=2\n")
	f.Add("terminal\nT-1\n\nT-1\nx\r\nT-2")
	f.Add("terminal,labels\n\"T-1\",\"a=\"\"1\"\"\"\nT-2,\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, faults, err := fleet.Parse(strings.NewReader(text), defaults)
		if err != nil {
			if !errors.Is(err, fleet.ErrList) {
				t.Fatal(err)
			}
			return
		}
		lines := map[int]bool{}
		var b strings.Builder
		b.WriteString("terminal,slots,endpoints,group,labels\n")
		for _, e := range entries {
			if err := e.Check(); err != nil || lines[e.Line] {
				t.Fatalf("line %d: %v", e.Line, err)
			}
			lines[e.Line] = true
			b.WriteString(written(e) + "\n")
		}
		for _, f := range faults {
			if f.Reason == "" || lines[f.Line] {
				t.Fatalf("line %d is wrong twice, or right too", f.Line)
			}
			lines[f.Line] = true
		}
		want := strings.Count(text, "\n") - 1
		if !strings.HasSuffix(text, "\n") {
			want++
		}
		if len(lines) != want {
			t.Fatalf("%d of %d lines", len(lines), want)
		}
		again, faults, err := fleet.Parse(strings.NewReader(b.String()), fleet.Defaults{})
		if err != nil || len(faults) > 0 || len(again) != len(entries) {
			t.Fatalf("written again: %d entries, %v, %v", len(again), faults, err)
		}
		for i := range again {
			if fmt.Sprint(again[i].Registration) != fmt.Sprint(entries[i].Registration) {
				t.Fatalf("%v reads as %v", entries[i], again[i])
			}
		}
	})
}

// written is a line that reads as an entry.
func written(e fleet.Entry) string {
	quote := func(parts []string) string {
		return `"` + strings.ReplaceAll(strings.Join(parts, ";"), `"`, `""`) + `"`
	}
	var slots, labels []string
	for _, s := range e.Slots {
		slots = append(slots, fmt.Sprintf("%d=%s", s.Slot, s.KeySet))
	}
	for _, l := range e.Labels {
		labels = append(labels, l.String())
	}
	return strings.Join([]string{string(e.Terminal), quote(slots), quote(e.Endpoints), string(e.Group), quote(labels)}, ",")
}
