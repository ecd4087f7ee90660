// Package terminal is what the firmware of a payment terminal links: saved keys, a link to the host, and sales over both.
//
// The usual path: [Enroll] makes the terminal in an empty folder, once, with the ticket from its slip of paper; after that
// [Open] at each start, [Terminal.SignIn], and [Terminal.Sale] for each customer. A sale that nobody answered comes back as
// [UnansweredError] and is kept in [Terminal.Pending] until [Terminal.Resend] or [Terminal.Drain] settles it. While the host cannot
// be reached [Terminal.SaleOffline] makes sales that wait, as far as the host has allowed; [Terminal.Queue] says what does.
// [Terminal.Run] drains and renews in the background; without it, once a day or so, [Terminal.RenewDue] and [Terminal.Renew]. And
// [Terminal.Rekey] when the operator has ordered new keys, [Terminal.NetworkChanged] when the device has changed networks. Where no
// registration authority is, [OpenBundle] and [Import] take the place of Enroll, and nothing is renewed. When something
// does not work, [Diagnose] says what; of a host with several endpoints [Status] says what was met at each, and
// [LinkOptions] whom to tell when another one takes over.
//
// Four seams carry what differs between devices: [FS] is the medium, [Sealer] guards what lies on it, [Engine] computes
// with the keys, and [Keys] has private keys, if the device does. The ones here run anywhere: [OSFS], the sealer
// [InsecureFile], and [SoftwareEngine].
//
// Rules that hold whatever fails: the state that follows a key is durable before the key is used, so no power cut makes
// a key serve twice; what is to be sent is durable before it is sent, and a private key before anybody hears of its public
// one; nothing that the host says is believed before its MAC verifies, and no key that is delivered is saved before
// everything about its delivery does. Every sealed file holds its content three times; a change is written copy after copy,
// each synced and read back, before it counts, so that a power cut and a rotten bit together leave a whole one, and registers
// of the past are overwritten before the key that follows them is used. Open makes the copies equal again. A state without a
// whole copy is an error and stays as it was. A state folder copied back from an
// older backup cannot be told from the real one here; the host tells it by its counters.
//
// The software engine keeps keys in the memory of the process and is no secure cryptographic device in the sense of PCI
// PIN. Messages are those of docs/protocol.md, section 3.
package terminal
