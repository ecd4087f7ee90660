package hsm

import (
	"os"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/hsmtest"
)

func TestMain(m *testing.M) { os.Exit(hsmtest.Binary(m, 232)) }
