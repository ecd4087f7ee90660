package deploy

import "fmt"

// commonYAML is what the three configurations share.
const commonYAML = `# The deployment folder, relative to this file.
folder: .
# Names this instance in the audit log. Two instances never share a name.
instance: %[3]s
tenant: %[1]s
# production or test. What is of the other environment is refused.
environment: %[2]v

# The passphrase that sealed files open with: one line, in a file of mode 0600. init does not write it.
passphrase-file: passphrase
`

// header is the first lines of a configuration.
func header(daemon, file string) string {
	return fmt.Sprintf(`# Configuration of latchkey-%[1]s. Start it with:
#
#     latchkey-%[1]s --config %[2]s
#
# Paths are relative to "folder". A field that is left out has the value shown here; an unknown field is an error.
# "latchkey-%[1]s --config %[2]s --check" reads everything and exits.

`, daemon, file)
}

func common(c Config, instance string) string {
	return fmt.Sprintf(commonYAML, c.Tenant, c.Environment, instance)
}

// decryptdYAML is the configuration of the decryption service, ready to run and with every field explained.
func decryptdYAML(c Config) []byte {
	return fmt.Appendf(nil, `%s# Where hosts of role acquirer-host call, over mutual TLS 1.3.
listen: 127.0.0.1:8443
# Liveness, readiness and metrics, without TLS: keep it on this machine.
admin: 127.0.0.1:9443

%s
# The certificate that callers see (leaf, then issuing certificate) and its key. Whom the service trusts stands in the
# trust folder; key sets are read from keysets, again each second and on SIGHUP.
certificate: services/decrypt/cert.pem
key: services/decrypt/key.sealed

# Where the registration authority (latchkey-provisiond) tells which terminals there are. Its feed reaches the service at
# once: a terminal that was revoked is refused within two seconds. Without a word from it for as long as stale-after,
# terminals are refused. Without this section, terminals are read from signed documents in the folder terminals.
registry:
  urls: [https://localhost:8446]
  stale-after: 5m
  cache: decryptd.feed

# With this section every answer tells the terminal, under its MAC, what it may sell while it cannot reach its host: so many sales,
# of so much together in the minor unit (50000 with 2 decimals are 500.00), as long as the oldest is not older. Without it a
# terminal sells nothing then.
# offline:
#   count: 20
#   age: 24h
#   amount: 50000
#   currency: EUR
#   exponent: 2

# The keys, and the claims. The database is made on first start; do not copy it while the service runs.
keyring: keyring
database: decryptd.db

# With this section base keys, zone keys and data keys are those of a PKCS#11 token, and "key" and "checkpoint-key" may name
# keys in it, as in pkcs11:object=decrypt. It needs the program of "make build-hsm". docs/hsm.md says how to set a token up.
# hsm:
#   uri: pkcs11:token=decryptd?module-path=/usr/lib/softhsm/libsofthsm2.so
#   pin-file: decryptd.pin
#   sessions: 4
#   cache: 4096
#   carry-pins: false

# The audit log is part of the database. Its checkpoints are signed with this key and written to this file as often as
# said: ship the file off this machine, "latchkey audit verify" compares with it.
checkpoint-key: audit/checkpoint.key.sealed
checkpoint-file: audit/checkpoint
checkpoint-every: 1m

# Who may call, by the name in its certificate, and the zone keys it may have PINs translated to. A key set must allow
# the zone key too.
callers:
  - name: %s
    pin-keys:
      - alias/zone-1
# Keys of fixed value that it may use, and what for: docs/aws.md.
#   keys:
#     - {key: alias/mac-1, for: [generate-mac, verify-mac]}

# How often what may be asked, and how much is worked on at once: docs/deployment.md has all members and their defaults.
# limits:
#   terminal: {burst: 4000, count: 100, per: 1s}
#   card: {burst: 10, count: 10, per: 1h}
#   working: 512
`, header("decryptd", DecryptdFile), common(c, decryptName), acquirerName)
}

// provisiondYAML is the configuration of the registration authority.
func provisiondYAML(c Config) []byte {
	return fmt.Appendf(nil, `%s# Where terminals enrol (EST, RFC 7030), renew and fetch their initial keys: TLS 1.3.
terminals: 127.0.0.1:8445
# One more address, for terminals whose EST client has no TLS 1.3, such as strongSwan's: TLS 1.2, certificates and no keys.
# terminals-tls12: 127.0.0.1:8449
# How many connections one source address may have open at each of these listeners: more where a balancer hides addresses.
# connections-per-source: 256
# Where operators and auditors administer, and where services follow the registry feed: mutual TLS 1.3.
services: 127.0.0.1:8446
# The signed trust list and the revocation list, over plain HTTP: a terminal fresh from the box trusts nobody yet, and
# what is served here proves itself.
publication: 127.0.0.1:8447
# Liveness, readiness and metrics, without TLS: keep it on this machine.
admin: 127.0.0.1:9446

%s
# The certificate of the listeners, and the one that signs the registry feed.
certificate: services/ra/cert.pem
key: services/ra/key.sealed
signer-certificate: services/registry/cert.pem
signer-key: services/registry/key.sealed

# The issuer of terminals, the key under which one-time codes are stored, and the list of roots for terminals.
issuer: ca/terminals
# With this section issuer-key, key, signer-key and checkpoint-key may name keys in a PKCS#11 token, in place of sealed files:
# docs/hsm.md.
# issuer-key: pkcs11:object=ca-terminals-issuing
# hsm:
#   uri: pkcs11:token=provisiond?module-path=/usr/lib/softhsm/libsofthsm2.so
#   pin-file: provisiond.pin
#   sessions: 4
# With this one a Vault certifies the terminals, in place of ca/terminals. latchkey vault setup prepares it and writes what is
# read from vault/: docs/vault.md.
# vault:
#   address: https://vault.example:8200
#   ca: vault/ca.pem
pepper: services/ra/pepper.sealed
trust-list: trust/list.signed

# The key-distribution host (latchkey-keyd), which alone holds base keys.
keyd: https://localhost:8448

# The registry: terminals, codes, certificates, approvals, the feed and the audit log, in one file.
database: provisiond.db
checkpoint-key: audit/provisiond.key.sealed
checkpoint-file: audit/provisiond.checkpoint
checkpoint-every: 1m
# When terminals renew their certificates, in percent of their life, also for a group of them (groups: {NORTH: {after: 30,
# before: 50}}), and how many certificates a terminal is given in a day.
renewal:
  after: 50
  before: 75
daily-cap: 20
`, header("provisiond", ProvisiondFile), common(c, raName))
}

// keydYAML is the configuration of the key-distribution host.
func keydYAML(c Config) []byte {
	return fmt.Appendf(nil, `%s# Where the registration authority calls, over mutual TLS 1.3. Nobody else does.
listen: 127.0.0.1:8448
# Liveness, readiness and metrics, without TLS: keep it on this machine.
admin: 127.0.0.1:9448

%s
# The certificate of the listener, and the one that signs deliveries.
certificate: services/keydist/cert.pem
key: services/keydist/key.sealed
signer-certificate: services/kdh-signer/cert.pem
signer-key: services/kdh-signer/key.sealed

# The issuer of agreement certificates, and the base keys.
issuer: ca/keydist
keyring: keyring

# With this section base keys are those of a PKCS#11 token that are for distribution, and issuer-key, key, signer-key and
# checkpoint-key may name keys in it, in place of sealed files. It is another token than that of the decryption service: docs/hsm.md.
# issuer-key: pkcs11:object=ca-keydist-issuing
# hsm:
#   uri: pkcs11:token=keyd?module-path=/usr/lib/softhsm/libsofthsm2.so
#   pin-file: keyd.pin
#   sessions: 4

# For key sets with delivery "attested": the folder of the signed documents that say which makers and key-injection
# facilities are trusted, and which of their devices may have keys. "latchkey attested sign" makes them, two people sign in
# production. Without one no such key is delivered. It is read again each second and on SIGHUP, as key sets are.
attested: attested

# The key ids that were given out, and the audit log, in one file.
database: keyd.db
checkpoint-key: audit/keyd.key.sealed
checkpoint-file: audit/keyd.checkpoint
checkpoint-every: 1m
`, header("keyd", KeydFile), common(c, keydistName))
}
