package est

import (
	"errors"
	"fmt"
)

var (
	// ErrFormat is wrapped when bytes are not the message that they should be. The text says where, and quotes nothing.
	ErrFormat = errors.New("est: malformed message")
	// ErrRequest is wrapped when a certificate signing request is well formed and may not be certified. The text is public
	// and says what to change; it quotes nothing of the request.
	ErrRequest = errors.New("est: request refused")
)

func malformed(text string) error { return fmt.Errorf("%w: %s", ErrFormat, text) }

func refused(text string) error { return fmt.Errorf("%w: %s", ErrRequest, text) }
