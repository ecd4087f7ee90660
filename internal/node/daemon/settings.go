package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Duration is a time.Duration that is written as in "30s".
type Duration time.Duration

// UnmarshalYAML reads what time.ParseDuration reads.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: want a duration such as 30s", n.Line)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load reads a configuration file with parse, which takes its text. The member that folder gives, the deployment folder,
// becomes relative to the file. Errors name the file.
func Load[C any](path string, parse func([]byte) (C, error), folder func(*C) *string) (C, error) {
	var none C
	f, err := os.Open(path)
	if err != nil {
		return none, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return none, err
	}
	if len(b) > maxFile {
		return none, fmt.Errorf("%s: longer than %d bytes", path, maxFile)
	}
	c, err := parse(b)
	if err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	if p := folder(&c); !filepath.IsAbs(*p) {
		*p = filepath.Join(filepath.Dir(path), *p)
	}
	return c, nil
}

// Parse reads the text of a configuration file over what c, a pointer, holds. Unknown and repeated members, and a second
// document, are errors.
func Parse(b []byte, c any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

// First returns the first error there is, nil for none.
func First(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Member is a member of a configuration with its value.
type Member struct{ Name, Value string }

// CheckDeployment reports a tenant or an environment that is none.
func CheckDeployment(tenant, environment string) error {
	if _, err := keyset.ParseTenant(tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if _, err := keyset.ParseEnvironment(environment); err != nil {
		return errors.New("environment: want production or test")
	}
	return nil
}

// CheckAddresses reports the first member that is no HOST:PORT.
func CheckAddresses(members ...Member) error {
	for _, m := range members {
		if _, _, err := net.SplitHostPort(m.Value); err != nil {
			return fmt.Errorf("%s: want HOST:PORT", m.Name)
		}
	}
	return nil
}

// CheckPaths reports the first member that is empty.
func CheckPaths(members ...Member) error {
	for _, m := range members {
		if m.Value == "" {
			return fmt.Errorf("%s: a path is required", m.Name)
		}
	}
	return nil
}

// CheckInstance reports a name that no instance may have.
func CheckInstance(s string) error {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return errors.New("instance: want 1 to 32 letters, digits and -")
		}
	}
	if len(s) < 1 || len(s) > 32 {
		return errors.New("instance: want 1 to 32 letters, digits and -")
	}
	return nil
}

// CheckURL reports a member that is no https://HOST or https://HOST:PORT, with nothing after it.
func CheckURL(m Member) error {
	u, err := url.Parse(m.Value)
	if err != nil || u.Hostname() == "" || m.Value != "https://"+u.Host {
		return fmt.Errorf("%s: want https://HOST:PORT", m.Name)
	}
	return nil
}

// CheckDuration reports a member of that name that is too short or too long.
func CheckDuration(name string, d Duration, least, most time.Duration) error {
	if v := time.Duration(d); v < least || v > most {
		return fmt.Errorf("%s: %v, want %s to %s", name, v, short(least), short(most))
	}
	return nil
}

// short writes a duration without the zeros at its end.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Path returns a path of a configuration as it is from the working directory: relative ones are in the folder.
func Path(folder, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(folder, p)
}
