# What the registration authority of latchkey may do in Vault: have terminals certified under one role, revoke what was
# certified, look at what was certified, have the revocation list made anew, and look after its own token. Nothing else, and never sign-verbatim.
path "{{mount}}/sign/{{role}}" {
  capabilities       = ["update"]
  # not_after is not among these: Vault lets it go beyond the max_ttl of a role.
  allowed_parameters = {
    "csr"                  = []
    "common_name"          = []
    "exclude_cn_from_sans" = [true]
    "uri_sans"             = []
    "ttl"                  = []
    "format"               = ["der"]
  }
}
path "{{mount}}/revoke" {
  capabilities       = ["update"]
  allowed_parameters = { "serial_number" = [] }
}
# To find what was certified for somebody who never got it, because this service ended in between.
path "{{mount}}/certs" {
  capabilities = ["list"]
}
path "{{mount}}/cert/*" {
  capabilities = ["read"]
}
path "{{mount}}/crl/rotate" {
  capabilities = ["read"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
