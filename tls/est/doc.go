// Package est reads and writes the messages of RFC 7030, Enrollment over Secure Transport, for both ends.
//
// A registration authority reads a certificate signing request with [DecodeRequest] and asks [CheckRequest] whether it may
// be certified: that it proves possession of its key, that the key is one to be trusted with an identity, and that it asks
// for nothing beyond the identity that its sender has been found to have. Names, usages and validity of the certificate
// are then set by the authority; nothing of the request but the public key gets into it. It answers with [EncodeCerts].
//
// A terminal writes its request with [NewRequest] and [EncodeRequest], and reads the answer with [DecodeCerts], which
// verifies nothing: tls/enroll does.
//
// Base64 is read leniently, because clients differ in where they break lines. Everything inside of it is read strictly:
// DER with one spelling, and whatever is not known is refused.
package est
