package claims

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// fault makes of a failure of the database a refusal that tells nothing, around a cause for the log. Other errors are
// those of a call, or of its context, and stay.
func fault(err error) error {
	for _, class := range []struct {
		of   error
		code decrypt.Code
	}{
		{sqlite.ErrFull, decrypt.CodeStoreFull},
		{sqlite.ErrDamaged, decrypt.CodeStoreDamaged},
		{sqlite.ErrUnavailable, decrypt.CodeStoreUnavailable},
		{sqlite.ErrExists, decrypt.CodeStoreUnavailable}, // no statement here may meet a row that it has not looked for
	} {
		if errors.Is(err, class.of) {
			return fmt.Errorf("claims: %w: %w", &decrypt.Refusal{Code: class.code}, err)
		}
	}
	return err
}
