package keys_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

const sheetText = `component: 1 of 3
algorithm: 2TDEA
value: 0123 4567 89AB CDEF FEDC BA98 7654 3210
kcv: legacy:08D7B4
key-kcv: cmac:0102030405
`

// TestHostileText gives the parsers texts that they must refuse, each with its class, and that no error may repeat.
func TestHostileText(t *testing.T) {
	t.Parallel()
	n := 0
	for name, c := range map[string]struct {
		a      keys.Algorithm
		digits string
		want   error
	}{
		"nothing":               {keys.AES128, "", keys.ErrLength},
		"a space":               {keys.AES128, " ", keys.ErrLength},
		"one digit":             {keys.AES128, "1", keys.ErrLength},
		"half a key":            {keys.TDES2, "0123456789ABCDEF", keys.ErrLength},
		"a digit short":         {keys.AES128, "0123456789ABCDEFFEDCBA987654321", keys.ErrLength},
		"a digit long":          {keys.AES128, "0123456789ABCDEFFEDCBA98765432100", keys.ErrLength},
		"of AES-192":            {keys.AES128, strings.Repeat("0123456789ABCDEF", 3), keys.ErrLength},
		"of AES-128":            {keys.AES192, strings.Repeat("0123456789ABCDEF", 2), keys.ErrLength},
		"much too long":         {keys.AES128, strings.Repeat("0123456789ABCDEF", 4000), keys.ErrLength},
		"a line end":            {keys.AES128, "0123456789ABCDEFFEDCBA9876543210\n", keys.ErrLength},
		"a leading space":       {keys.AES128, " 0123456789ABCDEFFEDCBA9876543210", keys.ErrLength},
		"groups, a last space":  {keys.AES128, "0123 4567 89AB CDEF FEDC BA98 7654 3210 ", keys.ErrLength},
		"groups, one missing":   {keys.AES128, "0123 4567 89AB CDEF FEDC BA98 7654", keys.ErrLength},
		"groups of eight":       {keys.AES128, "01234567 89ABCDEF FEDCBA98 76543210", keys.ErrLength},
		"pairs":                 {keys.AES128, "01 23 45 67 89 AB CD EF FE DC BA 98 76 54 32 10", keys.ErrLength},
		"groups by dashes":      {keys.AES128, "0123-4567-89AB-CDEF-FEDC-BA98-7654-3210", keys.ErrSyntax},
		"groups by tabs":        {keys.AES128, "0123\t4567\t89AB\tCDEF\tFEDC\tBA98\t7654\t3210", keys.ErrSyntax},
		"a space too early":     {keys.AES128, "012 34567 89AB CDEF FEDC BA98 7654 3210", keys.ErrSyntax},
		"a space too late":      {keys.AES128, "01234 567 89AB CDEF FEDC BA98 7654 3210", keys.ErrSyntax},
		"the last space is one": {keys.AES128, "0123 4567 89AB CDEF FEDC BA98 765493210", keys.ErrSyntax},
		"two spaces":            {keys.AES128, "0123  567 89AB CDEF FEDC BA98 7654 3210", keys.ErrSyntax},
		"G at the end":          {keys.AES128, "0123456789ABCDEFFEDCBA987654321G", keys.ErrSyntax},
		"g in front":            {keys.AES128, "g123456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"a slash":               {keys.AES128, "0/23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"a colon":               {keys.AES128, "0:23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"an at sign":            {keys.AES128, "0@23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"a back quote":          {keys.AES128, "0`23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"NUL":                   {keys.AES128, "0\x0023456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"bytes above ASCII":     {keys.AES128, "0\xff23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"0x":                    {keys.AES128, "0x23456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"full-width digits":     {keys.AES128, "０１２3456789ABCDEFFEDCBA98", keys.ErrLength},
		"letter O":              {keys.TDES2, "O123456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"zeros":                 {keys.AES128, strings.Repeat("0", 32), keys.ErrDependent},
		"zeros of HMAC":         {keys.HMAC256, strings.Repeat("0", 64), keys.ErrDependent},
		"zeros of TDES":         {keys.TDES3, strings.Repeat("0", 48), keys.ErrDependent},
		"zeros of odd parity":   {keys.TDES2, strings.Repeat("01", 16), keys.ErrDependent},
		"zeros but for parity":  {keys.TDES2, strings.Repeat("00", 15) + "01", keys.ErrDependent},
		"no algorithm":          {0, "0123456789ABCDEFFEDCBA9876543210", nil},
		"unknown algorithm":     {99, "", nil},
	} {
		n++
		k, err := keys.ParseComponent(c.a, []byte(c.digits))
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !k.IsZero() {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "BA98") || strings.Contains(err.Error(), "4567")) {
			t.Errorf("%s: %v repeats digits", name, err)
		}
	}
	replace := func(old, new string) string { return strings.Replace(sheetText, old, new, 1) }
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":                {"", keys.ErrSyntax},
		"a line end":             {"\n", keys.ErrSyntax},
		"digits alone":           {"0123456789ABCDEFFEDCBA9876543210", keys.ErrSyntax},
		"three lines":            {strings.Join(strings.SplitAfter(sheetText, "\n")[:3], ""), keys.ErrSyntax},
		"six lines":              {sheetText + "key-kcv: cmac:0102030405\n", keys.ErrSyntax},
		"an empty last line":     {sheetText + "\n", keys.ErrSyntax},
		"an empty first line":    {"\n" + sheetText, keys.ErrSyntax},
		"Windows line ends":      {strings.ReplaceAll(sheetText, "\n", "\r\n"), keys.ErrSyntax},
		"a byte order mark":      {"\ufeff" + sheetText, keys.ErrSyntax},
		"another order":          {replace("algorithm: 2TDEA\nvalue: 0123 4567 89AB CDEF FEDC BA98 7654 3210", "value: 0123 4567 89AB CDEF FEDC BA98 7654 3210\nalgorithm: 2TDEA"), keys.ErrSyntax},
		"a capital name":         {replace("value", "Value"), keys.ErrSyntax},
		"no space":               {replace("value: ", "value:"), keys.ErrSyntax},
		"two spaces":             {replace("value: ", "value:  "), keys.ErrLength},
		"a space at the end":     {replace("3210\n", "3210 \n"), keys.ErrLength},
		"0 of 3":                 {replace("1 of 3", "0 of 3"), keys.ErrSyntax},
		"4 of 3":                 {replace("1 of 3", "4 of 3"), keys.ErrSyntax},
		"1 of 1":                 {replace("1 of 3", "1 of 1"), keys.ErrSyntax},
		"1 of 0":                 {replace("1 of 3", "1 of 0"), keys.ErrSyntax},
		"1 of 10":                {replace("1 of 3", "1 of 10"), keys.ErrSyntax},
		"1 of :":                 {replace("1 of 3", "1 of :"), keys.ErrSyntax},
		"/ of 3":                 {replace("1 of 3", "/ of 3"), keys.ErrSyntax},
		"1 off 3":                {replace("1 of 3", "1 off 3"), keys.ErrSyntax},
		"1/3":                    {replace("1 of 3", "1/3"), keys.ErrSyntax},
		"1 OF 3":                 {replace("1 of 3", "1 OF 3"), keys.ErrSyntax},
		"01 of 3":                {replace("1 of 3", "01 of 3"), keys.ErrSyntax},
		"no numbers":             {replace("1 of 3", ""), keys.ErrSyntax},
		"unknown algorithm":      {replace("2TDEA", "TDES"), keys.ErrSyntax},
		"no algorithm":           {replace("2TDEA", ""), keys.ErrSyntax},
		"digits as algorithm":    {replace("2TDEA", "0123456789ABCDEFFEDCBA9876543210"), keys.ErrSyntax},
		"longer algorithm":       {replace("2TDEA", "3TDEA"), keys.ErrLength},
		"AES with a legacy KCV":  {replace("2TDEA", "AES-128"), nil}, // is one: the others are the test
		"HMAC with a legacy KCV": {replace("2TDEA", "HMAC-128"), keys.ErrSyntax},
		"no value":               {replace("0123 4567 89AB CDEF FEDC BA98 7654 3210", ""), keys.ErrLength},
		"zeros":                  {replace("0123 4567 89AB CDEF FEDC BA98 7654 3210", strings.Repeat("0", 32)), keys.ErrDependent},
		"a letter":               {replace("0123 4567", "O123 4567"), keys.ErrSyntax},
		"no KCV":                 {replace("legacy:08D7B4", ""), keys.ErrSyntax},
		"KCV without a kind":     {replace("legacy:08D7B4", "08D7B4"), keys.ErrSyntax},
		"KCV of HMAC":            {replace("legacy:08D7B4", "hmac:08D7B4"), keys.ErrSyntax},
		"KCV too long":           {replace("legacy:08D7B4", "legacy:08D7B401"), keys.ErrSyntax},
		"digits as KCV":          {replace("legacy:08D7B4", "legacy:0123456789ABCDEFFEDCBA9876543210"), keys.ErrSyntax},
		"no KCV of the key":      {replace("cmac:0102030405", ""), keys.ErrSyntax},
		"KCV of the key of HMAC": {replace("cmac:0102030405", "hmac:010203"), keys.ErrSyntax},
		"half a KCV of the key":  {replace("cmac:0102030405", "cmac:01020304"), keys.ErrSyntax},
	} {
		n++
		s, err := keys.ParseSheet([]byte(c.text))
		if (err == nil) != (c.want == nil) || !errors.Is(err, c.want) || err != nil && s != (keys.Sheet{}) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "BA98") || strings.Contains(err.Error(), "4567")) {
			t.Errorf("%s: %v repeats digits", name, err)
		}
	}
	t.Logf("hostile texts: %d", n)
}

// TestSheetText reads and writes sheets in all the forms there are.
func TestSheetText(t *testing.T) {
	t.Parallel()
	fourLines := strings.Join(strings.SplitAfter(sheetText, "\n")[:4], "")
	for name, c := range map[string]struct{ text, want string }{
		"as it is written":      {sheetText, sheetText},
		"without the last end":  {strings.TrimSuffix(sheetText, "\n"), sheetText},
		"without spaces":        {strings.Replace(sheetText, "0123 4567 89AB CDEF FEDC BA98 7654 3210", "0123456789ABCDEFFEDCBA9876543210", 1), sheetText},
		"small digits":          {strings.Replace(sheetText, "89AB CDEF FEDC", "89ab cdef fedc", 1), sheetText},
		"small check value":     {strings.Replace(sheetText, "08D7B4", "08d7b4", 1), sheetText},
		"four lines":            {fourLines, fourLines},
		"four lines, no end":    {strings.TrimSuffix(fourLines, "\n"), fourLines},
		"the last of nine":      {strings.Replace(sheetText, "1 of 3", "9 of 9", 1), strings.Replace(sheetText, "1 of 3", "9 of 9", 1)},
		"the second of two":     {strings.Replace(sheetText, "1 of 3", "2 of 2", 1), strings.Replace(sheetText, "1 of 3", "2 of 2", 1)},
		"a wrong check value":   {strings.Replace(sheetText, "08D7B4", "08D7B5", 1), strings.Replace(sheetText, "08D7B4", "08D7B5", 1)},
		"every digit, both way": {strings.Replace(sheetText, "0123 4567 89AB CDEF", "fedC Ba98 7654 3210", 1), strings.Replace(sheetText, "0123 4567 89AB CDEF", "FEDC BA98 7654 3210", 1)},
	} {
		s, err := keys.ParseSheet([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := s.Text()
		if err != nil || string(text.Expose()) != c.want {
			t.Errorf("%s: written as %q, %v", name, text.Expose(), err)
		}
		s.Wipe()
		if !s.Component.IsZero() {
			t.Errorf("%s: Wipe leaves the component", name)
		}
	}
	for _, a := range all {
		list := good(t, a, 2)
		text, err := list[1].Text()
		if err != nil {
			t.Fatal(err)
		}
		back, err := keys.ParseSheet(text.Expose())
		if err != nil || back.Verify(keys.ParityRequired) != nil || fmt.Sprintf("%X", xor(t, []keys.Sheet{back})) != fmt.Sprintf("%X", xor(t, list[1:])) {
			t.Errorf("%v: %v", a, err)
		}
	}
}

func TestSheetTextRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*keys.Sheet){
		"no component":   func(s *keys.Sheet) { s.Component = keys.Component{} },
		"no check value": func(s *keys.Sheet) { s.CheckValue = keys.CheckValue{} },
		"number 0":       func(s *keys.Sheet) { s.Number = 0 },
		"number 4 of 3":  func(s *keys.Sheet) { s.Number = 4 },
		"of 1":           func(s *keys.Sheet) { s.Of = 1 },
		"of 10":          func(s *keys.Sheet) { s.Of = 10 },
	} {
		s, err := keys.ParseSheet([]byte(sheetText))
		if err != nil {
			t.Fatal(err)
		}
		change(&s)
		if text, err := s.Text(); err == nil || !text.IsZero() {
			t.Errorf("%s: written", name)
		}
	}
	if _, err := (keys.Sheet{}).Text(); err == nil {
		t.Error("no sheet was written")
	}
}

// TestSheetVerify: a custodian alone finds a wrong digit, and a wrong parity where it is required.
func TestSheetVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, old, new string
		p              keys.Parity
		want           error
	}{
		{"as it is", "", "", keys.ParityRequired, nil},
		{"wrong check value", "08D7B4", "08D7B5", keys.ParityIgnored, keys.ErrCheckValue},
		{"wrong digit", "0123 4567", "0123 5567", keys.ParityIgnored, keys.ErrCheckValue},
		{"even, required", "0123 4567", "0023 4567", keys.ParityRequired, keys.ErrParity},
		{"even, adjusted", "0123 4567", "0023 4567", keys.ParityAdjusted, nil},
		{"even, ignored", "0123 4567", "0023 4567", keys.ParityIgnored, nil},
	} {
		s, err := keys.ParseSheet([]byte(strings.Replace(sheetText, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Verify(c.p)
		var at *keys.ComponentError
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err != nil && (!errors.As(err, &at) || at.Number != 1) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	s, err := keys.ParseSheet([]byte(sheetText))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []keys.Parity{0, 4} {
		if s.Verify(p) == nil {
			t.Errorf("parity %v", p)
		}
	}
	s.CheckValue = keys.CheckValue{}
	if err := s.Verify(keys.ParityIgnored); !errors.Is(err, keys.ErrCheckValue) || err.Error() != "component 1: keys: wrong check value: there is none to compare with" {
		t.Errorf("without a check value: %v", err)
	}
}
