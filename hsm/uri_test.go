package hsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // "" for itself
		"pkcs11:": "",
		"pkcs11:token=keys;serial=0123?module-path=/usr/lib/p11.so":             "",
		"pkcs11:serial=0123;token=keys":                                         "pkcs11:token=keys;serial=0123",
		"pkcs11:token=My%20token%25;object=alias/bdk":                           "pkcs11:token=My%20token%25;object=alias%2Fbdk",
		"pkcs11:id=%01%fF;type=secret-key":                                      "pkcs11:id=%01%FF;type=secret-key",
		"pkcs11:slot-id=0":                                                      "",
		"pkcs11:slot-id=18446744073709551615":                                   "",
		"pkcs11:token=?pin-source=file:/run/pin":                                "",
		"pkcs11:?module-path=/a%20b&pin-source=/c":                              "",
		"pkcs11:manufacturer=SoftHSM%20project;model=SoftHSM%20v2":              "",
		"pkcs11:token=a&b;object=c":                                             "",
		"pkcs11:type=private":                                                   "",
		"pkcs11:token=%C3%BC":                                                   "",
		"pkcs11:" + "token=" + strings.Repeat("a", maxURI-len("pkcs11:token=")): "",
	} {
		if strings.Contains(text, "alias/bdk") { // a slash has to be encoded in the path
			text = strings.ReplaceAll(text, "/", "%2F")
		}
		if want == "" {
			want = text
		}
		u, err := ParseURI(text)
		if err != nil || u.String() != want || fmt.Sprintf("%v", u) == "" {
			t.Errorf("%s: got %s, %v; want %s", text, u, err, want)
		}
		if u.IsZero() != (text == "pkcs11:") {
			t.Errorf("%s: IsZero is %v", text, u.IsZero())
		}
	}
	u, err := ParseURI("pkcs11:token=t?module-path=/m&pin-source=file:/p")
	if err != nil || u.Module() != "/m" || u.PINSource() != "file:/p" || !u.PIN().IsZero() {
		t.Errorf("got %q, %q, %v", u.Module(), u.PINSource(), err)
	}
}

func TestParseURIRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "another scheme": "pkcs12:token=a", "upper case": "PKCS11:token=a", "no =": "pkcs11:token",
		"an empty attribute": "pkcs11:token=a;", "only a separator": "pkcs11:;", "unknown": "pkcs11:colour=red", "a maker's": "pkcs11:x-slot=1",
		"twice": "pkcs11:token=a;token=a", "module twice": "pkcs11:?module-path=/a&module-path=/a", "source twice": "pkcs11:?pin-source=a&pin-source=a",
		"query unknown": "pkcs11:?module-name=softhsm2", "path in the query": "pkcs11:?token=a", "query in the path": "pkcs11:module-path=/a",
		"empty module": "pkcs11:?module-path=", "half a digit": "pkcs11:token=%4", "no digit": "pkcs11:token=%", "no hex": "pkcs11:token=%4G",
		"a sign": "pkcs11:token=%+1", "NUL": "pkcs11:token=a%00b", "a blank": "pkcs11:token=a b", "a quote": `pkcs11:token="a"`,
		"a slash in the path": "pkcs11:token=a/b", "a newline": "pkcs11:token=a\n", "a high byte": "pkcs11:token=\xc3\xbc",
		"a slot of letters": "pkcs11:slot-id=a", "a signed slot": "pkcs11:slot-id=-1", "a slot with zeros": "pkcs11:slot-id=01",
		"no slot": "pkcs11:slot-id=", "a slot too large": "pkcs11:slot-id=18446744073709551616", "a type": "pkcs11:type=secret",
		"an ampersand in a path of the query": "pkcs11:?module-path=/a;pin-source=b", "too long": "pkcs11:token=" + strings.Repeat("a", maxURI),
		"a hash": "pkcs11:token=a#b",
	} {
		u, err := ParseURI(text)
		if !errors.Is(err, ErrURI) || !u.IsZero() {
			t.Errorf("%s: got %v, %v", name, u, err)
		}
		if _, err := ParseURIWithPIN(text); err == nil {
			t.Errorf("%s: taken with a PIN allowed", name)
		}
	}
}

func TestPINValue(t *testing.T) {
	t.Parallel()
	const text = "pkcs11:token=t?pin-value=s3cret%21"
	if u, err := ParseURI(text); !errors.Is(err, ErrPINValue) || !u.IsZero() || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v, %v", u, err)
	}
	u, err := ParseURIWithPIN(text)
	if err != nil || string(u.PIN().Expose()) != "s3cret!" {
		t.Fatalf("got %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if out := fmt.Sprintf(verb, u); strings.Contains(out, "s3cret") || strings.Contains(out, "733363726574") {
			t.Errorf("%s prints the PIN: %s", verb, out)
		}
	}
	for _, text := range []string{"pkcs11:?pin-value=", "pkcs11:?pin-value=1&pin-value=1", "pkcs11:?pin-value=1&x=2"} {
		if _, err := ParseURIWithPIN(text); !errors.Is(err, ErrURI) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := []tokenInfo{
		{slot: 1, label: "a", serial: "1", model: "m", manufacturer: "x"}, {slot: 2, label: "b", serial: "2", model: "m", manufacturer: "x"},
		{slot: 3, label: "b", serial: "3", model: "n", manufacturer: "y"},
	}
	for text, want := range map[string]uint{ // 0: none, 99: several
		"pkcs11:token=a": 1, "pkcs11:token=b": 99, "pkcs11:token=b;serial=3": 3, "pkcs11:": 99, "pkcs11:token=c": 0, "pkcs11:token=": 0,
		"pkcs11:model=n": 3, "pkcs11:model=m": 99, "pkcs11:manufacturer=y": 3, "pkcs11:slot-id=2": 2, "pkcs11:slot-id=2;token=a": 0,
		"pkcs11:serial=1;token=b": 0, "pkcs11:token=A": 0,
	} {
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := u.choose(all)
		switch {
		case want == 0 && errors.Is(err, ErrNoToken), want == 99 && errors.Is(err, ErrAmbiguous):
		case err != nil || got.slot != want:
			t.Errorf("%s: got slot %d, %v; want %d", text, got.slot, err, want)
		}
	}
}

// FuzzParseURI: what is taken is spelled in one way, which reads as the same.
func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{
		"pkcs11:", "pkcs11:token=My%20token;serial=01;object=alias%2Fbdk?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin",
		"pkcs11:slot-id=7;id=%00", "pkcs11:token=a;token=b", "pkcs11:?pin-value=1234", "pkcs11:token=%zz", "pkcs11:token=ü", "pkcs11:;;",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			if !u.IsZero() {
				t.Errorf("%q gives %v beside %v", text, u, err)
			}
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u || again.String() != u.String() {
			t.Errorf("%q reads as %v, and that as %v, %v", text, u, again, err)
		}
		if strings.ContainsRune(u.Module()+u.PINSource(), 0) {
			t.Errorf("%q holds a NUL", text)
		}
	})
}

func ExampleParseURI() {
	u, err := ParseURI("pkcs11:token=acquirer;serial=5e0c7a11?module-path=/usr/lib/softhsm/libsofthsm2.so")
	fmt.Println(u.Module(), err)
	_, err = ParseURI("pkcs11:token=acquirer?pin-value=1234")
	fmt.Println(err)
	// Output:
	// /usr/lib/softhsm/libsofthsm2.so <nil>
	// hsm: a PIN stands in the URI: give it by pin-source, or in a file
}

// TestURIObject keeps what names a key, and drops what names a token, a module or a PIN.
func TestURIObject(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"pkcs11:token=a;serial=1;object=k;id=%01;type=private?module-path=/m.so&pin-source=p": "pkcs11:object=k;id=%01;type=private",
		"pkcs11:object=k":                     "pkcs11:object=k",
		"pkcs11:token=a?module-path=/m.so":    "pkcs11:",
		"pkcs11:slot-id=3;manufacturer=x;id=": "pkcs11:id=",
	} {
		u, err := ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		o := u.Object()
		if o.String() != want || o.NamesKey() != strings.Contains(want, "=") {
			t.Errorf("%s: %s, names a key: %v", text, o, o.NamesKey())
		}
	}
}
