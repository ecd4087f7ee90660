// Package provision is the registration authority: it knows which terminals there are, and what each of them may do.
//
// An [Engine] registers terminals, hands out one-time codes, has certificates issued for those who show one, passes the
// initial keys of the key-distribution host on, and tells everyone who listens what became of a terminal: every change is
// a signed record of the registry feed, appended in the transaction of the change. Operators act through [Engine.Do],
// terminals through the handler that [TerminalHandler] makes, services through [Engine.Feed] and [Engine.Observe].
//
// Everything it knows is in a [Store]; the suite in tls/provision/provisiontest holds implementations to their contract.
// It holds no DUKPT key and sees none: initial keys pass through it wrapped for the terminal.
//
// What it does not protect against: whoever holds the unused code of a terminal enrols as that terminal. Codes are short
// lived, void after a few wrong guesses, and bound to the first public key that was shown with them.
package provision
