// Package ceremony brings a key into a token in components, one for each custodian, so that nobody has the whole key.
//
// A [Plan] says which key comes into which token, and whose components make it. [Seal] seals a component to the certificate of
// its custodian: HPKE (RFC 9180) with P-256, HKDF-SHA-256 and AES-256-GCM, and everything public about it as associated data.
// A [Record] has the plan, which sealed files belong to it, the approval of two custodians over both, and in the end what
// was loaded. It is a text of JSON, one entry a line, that is only appended to, and holds no secret.
//
// The usual path: [New], [Seal] by each custodian, [Record.Collect] and [Record.Approve] by two of them, then [Record.Begin] on the
// machine of the token, [Loading.Open] by each custodian, [Loading.Key] and [Loading.Finish].
//
// What it does not protect against: the process that combines the components has the whole key in its memory until it is in the
// token. Sealing is to a certificate and from anybody: which component is the right one is what custodians compare check values
// for, and approve. Two people are two names in certificates and two keys; who holds those keys is for the organisation.
package ceremony
