package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// DecryptdConfig gives the external test the file that Create writes.
func DecryptdConfig(t *testing.T) []byte {
	b, err := os.ReadFile(deployment(t, keyset.Test).Path(DecryptdFile))
	must(t, err)
	if strings.Contains(string(b), "\t") || !strings.HasPrefix(string(b), "# Configuration of latchkey-decryptd.") {
		t.Errorf("the file reads %s", b)
	}
	return b
}
