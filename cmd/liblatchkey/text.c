/* What the codes of latchkey.h mean. The texts are C's own, so that nobody has to free one. */
#include "latchkey.h"

const char *lk_error_text(int code)
{
	switch (code) {
	case LK_OK: return "no error";
	case LK_ARGUMENT: return "an argument is missing or has a value that none has";
	case LK_SHORT_BUFFER: return "an output does not fit; its size says what is needed";
	case LK_OVERLAP: return "an output overlaps another argument";
	case LK_HANDLE: return "no open handle of this kind has this number";
	case LK_ORDER: return "not the moment for this call";
	case LK_BUSY: return "the handle is in use by another thread, or by the call that led to this callback";
	case LK_LENGTH: return "an input has the wrong length";
	case LK_UNSUPPORTED: return "not supported by this scheme or library";
	case LK_INTERNAL: return "a fault of the library; close the handle and report it";
	case LK_KSN: return "not a key serial number of this key";
	case LK_KEY: return "not a key of this scheme, or a weak one";
	case LK_EXHAUSTED: return "the keys are used up; the terminal needs a new initial key";
	case LK_VERIFY: return "does not verify";
	case LK_STATE: return "saved state is damaged, missing or not of this device";
	case LK_STRENGTH: return "the working key would be stronger than its parent";
	case LK_PIN: return "a PIN is 4 to 12 digits";
	case LK_PAN: return "a card number is 8 to 19 digits";
	case LK_SAVE: return "the state was not saved; no key was used";
	case LK_SLOT: return "no such slot, or none for this purpose";
	case LK_ZEROIZED: return "the keys are destroyed";
	case LK_NO_KEYPAD: return "the engine has no keypad";
	case LK_JUMP: return "the host asks for a counter too far ahead";
	case LK_JUMP_BUDGET: return "the jumps allowed for this key are used up; ask for a new key";
	case LK_END: return "there are no more";
	case LK_ENGINE: return "the engine or the sealer of the device failed";
	case LK_NO_TERMINAL: return "no terminal has been made in the folder";
	case LK_EXISTS: return "the folder already holds a terminal";
	case LK_LOCKED: return "another process works on the folder";
	case LK_INSECURE: return "production keys need a sealer of the device";
	case LK_TICKET: return "not a ticket, or the enrolment needs one";
	case LK_TRUST: return "whoever answered is not to be trusted, or the clock is wrong";
	case LK_REFUSED: return "the authority or the host refuses";
	case LK_CERTIFICATE_REFUSED: return "the host refuses the certificate of this terminal";
	case LK_ASSIGNMENT: return "what is set up for this terminal is not complete";
	case LK_UNREACHABLE: return "no answer in time";
	case LK_UNANSWERED: return "no answer; the sale is kept, lk_terminal_drain settles it";
	case LK_ACK: return "the answer is not genuine";
	case LK_QUEUE: return "the oldest unanswered sale is about to become too old; lk_terminal_drain first";
	case LK_OFFLINE: return "the host does not allow this sale without it";
	case LK_SALE: return "not a valid sale";
	case LK_BEHIND: return "the counters were behind those of the host and have followed";
	case LK_UNCONFIRMED: return "the host does not take the new key";
	case LK_CLOSED: return "the terminal was closed";
	case LK_MEDIUM: return "the folder cannot be read or written";
	}
	return "unknown error";
}
