package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settings are a small configuration.
type settings struct {
	Folder string   `yaml:"folder"`
	Listen string   `yaml:"listen"`
	Every  Duration `yaml:"every"`
}

func parse(b []byte) (settings, error) {
	s := settings{Folder: ".", Listen: "127.0.0.1:1", Every: Duration(time.Minute)}
	err := Parse(b, &s)
	return s, err
}

func load(path string) (settings, error) {
	return Load(path, parse, func(s *settings) *string { return &s.Folder })
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := func(path string) string { return filepath.Dir(path) }
	for _, c := range []struct {
		name, text string
		want       func(path string) settings
	}{
		{"says nothing", "", func(p string) settings { return settings{dir(p), "127.0.0.1:1", Duration(time.Minute)} }},
		{"comments only", "# nothing\n", func(p string) settings { return settings{dir(p), "127.0.0.1:1", Duration(time.Minute)} }},
		{"relative", "folder: pos\nevery: 90s\n", func(p string) settings {
			return settings{filepath.Join(dir(p), "pos"), "127.0.0.1:1", Duration(90 * time.Second)}
		}},
		{"absolute", "folder: /srv/pos\nlisten: :0\n", func(string) settings { return settings{"/srv/pos", ":0", Duration(time.Minute)} }},
		{"as long as it may be", "#" + strings.Repeat("x", maxFile-1), func(p string) settings { return settings{dir(p), "127.0.0.1:1", Duration(time.Minute)} }},
	} {
		path := write(t, c.text)
		if got, err := load(path); err != nil || got != c.want(path) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want(path))
		}
	}
}

// TestLoadRefuses wants the file and the reason in the error, and no configuration.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"unknown member", "colour: red\n", "colour"},
		{"wrong case", "Listen: x\n", "Listen"},
		{"repeated member", "listen: a\nlisten: b\n", "listen"},
		{"second document", "listen: a\n---\n{}\n", "more than one document"},
		{"second document that is empty", "listen: a\n---\n", "more than one document"},
		{"no mapping", "[a, b]\n", "settings"},
		{"no YAML", "listen: [}\n", "yaml"},
		{"duration without a unit", "every: 60\n", "want a duration such as 30s"},
		{"too long", "#" + strings.Repeat("x", maxFile), "longer than 1048576 bytes"},
	} {
		path := write(t, c.text)
		got, err := load(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || got != (settings{}) {
			t.Errorf("%s: %+v, %v, want an error about %q of %s", c.name, got, err, c.want, path)
		}
	}
	if _, err := load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestDurationsComeBack(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, time.Millisecond, 90 * time.Second, 24 * time.Hour} {
		text, err := yaml.Marshal(settings{Every: Duration(d)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parse(text); err != nil || got.Every != Duration(d) {
			t.Errorf("%v as %q became %v, %v", d, text, time.Duration(got.Every), err)
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	url := func(s string) error { return CheckURL(Member{"keyd", s}) }
	every := func(d time.Duration) error { return CheckDuration("every", Duration(d), 5*time.Minute, 24*time.Hour) }
	for _, c := range []struct {
		name, want string // nothing to want: it is fine
		err        error
	}{
		{"deployment", "", CheckDeployment("ACME", "test")},
		{"tenant in small letters", "tenant", CheckDeployment("acme", "test")},
		{"no tenant", "tenant", CheckDeployment("", "test")},
		{"environment", "environment: want production or test", CheckDeployment("ACME", "Test")},
		{"addresses", "", CheckAddresses(Member{"listen", "localhost:0"}, Member{"admin", "[::1]:9443"}, Member{"all", ":1"})},
		{"second address", "admin: want HOST:PORT", CheckAddresses(Member{"listen", "localhost:0"}, Member{"admin", "localhost"})},
		{"paths", "", CheckPaths(Member{"folder", "."}, Member{"key", "k"})},
		{"second path", "key: a path is required", CheckPaths(Member{"folder", "."}, Member{"key", ""})},
		{"instance", "", CheckInstance("RA-1")},
		{"longest instance", "", CheckInstance(strings.Repeat("a", 32))},
		{"no instance", "instance", CheckInstance("")},
		{"instance too long", "instance", CheckInstance(strings.Repeat("a", 33))},
		{"instance with a space", "instance", CheckInstance("RA 1")},
		{"instance of other letters", "instance", CheckInstance("Ä")},
		{"URL", "", url("https://localhost:8448")},
		{"URL without a port", "", url("https://keyd.example")},
		{"plain URL", "keyd: want https://HOST:PORT", url("http://localhost:8448")},
		{"URL with a path", "keyd", url("https://localhost:8448/delivery")},
		{"URL with a slash", "keyd", url("https://localhost:8448/")},
		{"URL with a name", "keyd", url("https://me@localhost:8448")},
		{"URL with a query", "keyd", url("https://localhost:8448?a=b")},
		{"URL with a fragment", "keyd", url("https://localhost:8448#a")},
		{"URL without a host", "keyd", url("https://:8448")},
		{"no URL", "keyd", url("")},
		{"shortest duration", "", every(5 * time.Minute)},
		{"longest duration", "", every(24 * time.Hour)},
		{"duration too short", "every: 4m59s, want 5m to 24h", every(5*time.Minute - time.Second)},
		{"duration too long", "want 5m to 24h", every(24*time.Hour + 1)},
	} {
		if c.want == "" && c.err != nil || c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("%s: got %v, want an error about %q", c.name, c.err, c.want)
		}
	}
}

func TestFirst(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	if First() != nil || First(nil, nil) != nil || First(nil, one, two) != one {
		t.Error("not the first")
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	if got := Path("pos", "ca/terminals"); got != filepath.Join("pos", "ca", "terminals") {
		t.Errorf("a relative path became %s", got)
	}
	if got := Path("pos", "/var/lib/ra.db"); got != "/var/lib/ra.db" {
		t.Errorf("an absolute path became %s", got)
	}
}

// TestOpeningNamesTheMember looks for what is not there.
func TestOpeningNamesTheMember(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	_, certificate := OpenCredential(none, PrivateKey{File: none, Passphrase: secretText}, "ACME", identity.RA)
	_, _, signer := OpenSigner(none, PrivateKey{File: none, Passphrase: secretText})
	_, checkpoint := OpenCheckpoints(PrivateKey{File: none, Passphrase: secretText}, "", none, 0, nil, nil)
	for member, err := range map[string]error{"certificate: ": certificate, "signer-certificate: ": signer, "checkpoint-key: ": checkpoint} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), member) {
			t.Errorf("%s: %v", member, err)
		}
	}
}
