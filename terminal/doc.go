// Package terminal is what the firmware of a payment terminal links: saved keys, a link to the host, and sales over both.
//
// The usual path: [OpenBundle] what the operator handed over and [Import] it into a folder once; after that [Open] at each
// start, [Terminal.SignIn], and [Terminal.Sale] for each customer. A sale that nobody answered comes back as
// [UnansweredError] and is kept in [Terminal.Pending] until [Terminal.Resend] settles it.
//
// Three seams carry what differs between devices: [FS] is the medium, [Sealer] guards what lies on it, [Engine] computes
// with the keys. The ones here run anywhere: [OSFS], the sealer [InsecureFile], and [SoftwareEngine].
//
// Rules that hold whatever fails: the state that follows a key is durable before the key is used, so no power cut makes
// a key serve twice; what is to be sent is durable before it is sent; nothing that the host says is believed before its
// MAC verifies; a damaged state is an error and stays as it was. A state folder copied back from an older backup cannot
// be told from the real one here; the host tells it by its counters.
//
// The software engine keeps keys in the memory of the process and is no secure cryptographic device in the sense of PCI
// PIN. Messages are those of docs/protocol.md, section 3.
package terminal
