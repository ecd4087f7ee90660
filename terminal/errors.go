package terminal

import "errors"

// Errors that a caller acts on, by errors.Is.
var (
	// ErrBundle says that a bundle is not one, or contradicts itself. The passphrase errors of a sealed one are those of
	// its envelope.
	ErrBundle = errors.New("terminal: not a valid bundle")
	// ErrExists says that the folder already holds a terminal; importing over it would use its keys a second time.
	ErrExists = errors.New("terminal: the folder already holds a terminal")
	// ErrNoTerminal says that no terminal has been made in the folder.
	ErrNoTerminal = errors.New("terminal: no terminal has been made here")
	// ErrTicket says that an enrolment cannot begin, or go on, without a ticket for it.
	ErrTicket = errors.New("terminal: the enrolment needs its ticket")
	// ErrAssignment says that what is set up for the terminal at the authority does not make a terminal that works, or not
	// yet: its operator has to look at it.
	ErrAssignment = errors.New("terminal: what is set up for this terminal is not complete")
	// ErrNotEnrolled says that a terminal which came from a bundle has nobody to ask for certificates or keys.
	ErrNotEnrolled = errors.New("terminal: it came from a bundle and has no authority to ask")
	// ErrCertificateRefused says that the host does not let the terminal in with its certificate: trying again is useless.
	// Its operator knows why; it may be revoked, or over.
	ErrCertificateRefused = errors.New("terminal: the host refuses the certificate of this terminal")
	// ErrUnconfirmed says that the host does not take a key that was fetched for it. The terminal works on with the old one.
	ErrUnconfirmed = errors.New("terminal: the host does not take the new key")
	// ErrState says that a saved file is damaged, missing or of another device. Nothing has been changed.
	ErrState = errors.New("terminal: saved state is damaged or not of this device")
	// ErrLocked says that another process works on the folder.
	ErrLocked = errors.New("terminal: the folder is in use by another process")
	// ErrInsecure says that keys of a production set were to be kept by the insecure-file sealer.
	ErrInsecure = errors.New("terminal: the insecure-file sealer does not keep production keys")
	// ErrJump says that the host asks for a counter too far ahead to be believed. The terminal stays where it is.
	ErrJump = errors.New("terminal: the host asks for a counter too far ahead")
	// ErrJumpBudget says that the counters given up on the host's word are as many as are allowed for one key: ask for a
	// new key.
	ErrJumpBudget = errors.New("terminal: the jumps allowed for this key are used up")
	// ErrAck says that an answer is not a genuine acknowledgement of what was sent.
	ErrAck = errors.New("terminal: the answer is not a genuine acknowledgement")
	// ErrBehind says that the host refused the message that was to settle a sale, because the counters were behind its own,
	// and that they have followed: the sale is kept, and the next Resend is made above the floor.
	ErrBehind = errors.New("terminal: the counters were behind those of the host and have followed: resend again")
	// ErrQueue says that so many keys have been used since the oldest unanswered sale that the host is about to refuse
	// that one as too old. Resend it first.
	ErrQueue = errors.New("terminal: the oldest unanswered sale is about to become too old: resend it first")
	// ErrOffline says that the host does not allow a sale without it, or not another one until those that wait have been
	// delivered.
	ErrOffline = errors.New("terminal: the host does not allow this sale without it")
	// ErrNoTransaction says that a slot has no transaction under way, or has one already.
	ErrNoTransaction = errors.New("terminal: slot is not in the state for this call")
	// ErrSlot says that no slot has this number or serves this purpose.
	ErrSlot = errors.New("terminal: no such slot")
	// ErrZeroized says that the keys have been destroyed.
	ErrZeroized = errors.New("terminal: keys are destroyed")
	// ErrSale says that a sale is incomplete or contradicts itself; nothing was used or sent.
	ErrSale = errors.New("terminal: not a valid sale")
	// ErrClosed says that the terminal has been closed.
	ErrClosed = errors.New("terminal: closed")
)
