package terminal_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/sealertest"
)

func TestInsecureFileSealer(t *testing.T) {
	t.Parallel()
	sealertest.Run(t, func(t *testing.T) sealertest.Device {
		medium := terminal.OSFS(t.TempDir())
		return sealertest.Device{Insecure: true, Open: func(t *testing.T) terminal.Sealer {
			s, err := terminal.CreateInsecureFile(medium)
			check(t, err)
			return s
		}}
	})
}
