// Package message is what a terminal and its host say to each other: types, bytes, and what the MAC covers.
//
// A message is deterministic CBOR [payload, MAC]; the payload is a map that names who speaks, under which KSN it is
// MACed, and which fields are encrypted under which KSNs. MACs and digests cover bytes as they were received: nothing is
// ever encoded again to check it. Every value has one spelling; [Parse] refuses all others.
//
// A terminal calls [Encode], computes the MAC over the result with the key of [Payload.MAC], and calls [Assemble]. The
// host calls [Parse], verifies [Message.MAC] over [Message.PayloadBytes], and only then believes [Message.Payload]. Acks
// go the other way with [EncodeAck], [AssembleAck] and [ParseAck].
//
// The package holds no keys, verifies no MAC, keeps no clock and does not know which KSN belongs to whom. Ciphertexts
// are opaque to it. The formats stand in docs/protocol.md, section 3.
package message
