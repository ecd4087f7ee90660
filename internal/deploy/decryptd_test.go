package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// DecryptdConfig gives the external test the file that Create writes.
func DecryptdConfig(t *testing.T) []byte { return written(t, DecryptdFile, "latchkey-decryptd") }

// ProvisiondConfig is the same for latchkey-provisiond, KeydConfig for latchkey-keyd.
func ProvisiondConfig(t *testing.T) []byte { return written(t, ProvisiondFile, "latchkey-provisiond") }
func KeydConfig(t *testing.T) []byte       { return written(t, KeydFile, "latchkey-keyd") }

func written(t *testing.T, file, program string) []byte {
	t.Helper()
	b, err := os.ReadFile(deployment(t, keyset.Test).Path(file))
	must(t, err)
	if strings.Contains(string(b), "\t") || !strings.HasPrefix(string(b), "# Configuration of "+program+".") {
		t.Errorf("the file reads %s", b)
	}
	return b
}
