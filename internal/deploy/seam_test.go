package deploy_test

import (
	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/keyring"
)

// What a deployment gives is what the host service takes.
var (
	_ decrypt.Catalog = (*deploy.Catalog)(nil)
	_ decrypt.Secrets = (*keyring.Ring)(nil)
)
