package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
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

// Load reads a configuration file over what c, a pointer, holds: unknown and repeated members, and a second document, are
// errors. folder is the member that names the deployment folder; it becomes relative to the file.
func Load(path string, c any, folder *string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s: longer than %d bytes", path, maxFile)
	}
	if err := Parse(b, c); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !filepath.IsAbs(*folder) {
		*folder = filepath.Join(filepath.Dir(path), *folder)
	}
	return nil
}

// Parse reads the text of a configuration file over what c, a pointer, holds.
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

// Member is a member of a configuration with its value.
type Member struct{ Name, Value string }

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

// CheckEvery reports an interval of checkpoints that is too short or too long.
func CheckEvery(d Duration) error {
	if every := time.Duration(d); every < time.Second || every > time.Hour {
		return fmt.Errorf("checkpoint-every: %v, want 1s to 1h", every)
	}
	return nil
}

// Path returns a path of a configuration as it is from the working directory: relative ones are in the folder.
func Path(folder, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(folder, p)
}
