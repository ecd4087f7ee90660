/*
 * latchkey.h: the C interface of latchkey, for the firmware of payment terminals. C99.
 *
 * Two libraries have it. The core, liblatchkey-core, has the keys of DUKPT, PIN blocks, MACs and card data, and no network.
 * The whole one, liblatchkey, has the terminal besides: enrolment, TLS, sales, what waits for the host. What only the whole
 * one has stands below "The terminal". docs/c.md is the page to read first.
 *
 * Errors. Every function returns an lk_code, LK_OK or what went wrong; the numbers never change their meaning. A call that
 * fails with LK_ARGUMENT, LK_SHORT_BUFFER, LK_OVERLAP, LK_LENGTH, LK_HANDLE, LK_ORDER or LK_BUSY has changed nothing.
 *
 * Buffers belong to the caller; nothing is kept of them after a call, and nothing has to be freed. An output is a buffer and
 * a size_t beside it: its room before the call, and what was written after it. With too little room, or a NULL buffer, the
 * call fails with LK_SHORT_BUFFER, sets the size to what is needed, and uses nothing up: no key, no counter. Outputs overlap
 * neither each other nor an input, else LK_OVERLAP; a room that is larger than the buffer, SIZE_MAX perhaps, reaches over what
 * lies behind it. What has length 0 may have any address, and no byte of it is touched. Pointers that a callback is given are
 * good until it returns. A context is handed on as it is and need not be a pointer. Texts are UTF-8, at most 4095 bytes, with
 * a 0 at their end.
 *
 * Handles are numbers, not pointers. 0 is none, and a number is never given twice, so a closed one is LK_HANDLE for good.
 *
 * Structures begin with their size: set it to sizeof, and the rest to zero, before the fields that are wanted. A zero field
 * is the default that stands beside it. A library takes structures of an older header, and refuses those of a newer one.
 *
 * Threads. Any thread may call. A DUKPT handle that another thread is using is LK_BUSY. Calls to one terminal wait for each
 * other, but lk_terminal_close and lk_terminal_zeroize end those that wait for the network. A callback runs on the thread of
 * the call that leads to it. It must return, and must not call with the handle that it serves: that is LK_BUSY, but for
 * lk_terminal_detail and lk_terminal_body, which work and say what the calls before this one have left.
 *
 * Processes. The library starts threads and has signal handlers: load it after the last fork without exec, once in a
 * process, and never unload it. Do not call it from a signal handler.
 */
#ifndef LATCHKEY_H
#define LATCHKEY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What this header describes. A library with the same major number and at least this minor one goes with it. */
#define LK_VERSION_MAJOR 1
#define LK_VERSION_MINOR 0

/* The longest input, in bytes. A longer one is LK_LENGTH. */
#define LK_MAX_INPUT (1 << 20)

enum lk_code {
	LK_OK = 0,

	/* The call is wrong. */
	LK_ARGUMENT = 1,     /* an argument is NULL that may not be, or has a value that none has */
	LK_SHORT_BUFFER = 2, /* an output does not fit; its size says what is needed */
	LK_OVERLAP = 3,      /* an output overlaps another argument */
	LK_HANDLE = 4,       /* no open handle of this kind has this number */
	LK_ORDER = 5,        /* not now: no transaction is under way, or one is; the terminal is not open, or is */
	LK_BUSY = 6,         /* another thread is using the handle, or a callback has called with its own */
	LK_LENGTH = 7,       /* an input is longer or shorter than it may be */
	LK_UNSUPPORTED = 8,  /* the scheme does not have what is asked for, or this library does not */
	LK_INTERNAL = 9,     /* a fault of the library; the handle is to be closed. Please report it */

	/* Keys. */
	LK_KSN = 20,       /* not a key serial number, or not one of this key */
	LK_KEY = 21,       /* not a key: of the wrong length, or weak */
	LK_EXHAUSTED = 22, /* the last key is used: the terminal needs a new initial key */
	LK_VERIFY = 23,    /* a MAC or padding does not verify. It is never said why */
	LK_STATE = 24,     /* what was saved is damaged, missing or of another device */
	LK_STRENGTH = 25,  /* the working key would be stronger than the key it comes from */
	LK_PIN = 26,       /* not a PIN: 4 to 12 digits */
	LK_PAN = 27,       /* not a card number: 8 to 19 digits */
	LK_SAVE = 28,      /* the save callback failed; nothing has changed, and no key is out */

	/* Engines: what the functions of an lk_engine return, beside LK_ORDER, LK_LENGTH, LK_UNSUPPORTED and the codes of keys
	 * other than LK_KEY and LK_SAVE. */
	LK_SLOT = 40,        /* no such slot, or none for this purpose */
	LK_ZEROIZED = 41,    /* the keys are destroyed */
	LK_NO_KEYPAD = 42,   /* the engine has no keypad of its own */
	LK_JUMP = 43,        /* the host asks for a counter too far ahead */
	LK_JUMP_BUDGET = 44, /* the jumps allowed for this key are used up: ask for a new one */
	LK_END = 45,         /* there are no more */
	LK_ENGINE = 46,      /* the engine or the sealer failed, with LK_ORDER or LK_LENGTH too; lk_terminal_detail says how */

	/* The terminal. */
	LK_NO_TERMINAL = 60,         /* no terminal was made in the folder: enrol */
	LK_EXISTS = 61,              /* the folder holds a terminal already */
	LK_LOCKED = 62,              /* another process works on the folder */
	LK_INSECURE = 63,            /* production keys are not kept without a sealer */
	LK_TICKET = 64,              /* not a ticket, or the enrolment needs one */
	LK_TRUST = 65,               /* whoever answered is not who the ticket names, or the clock is wrong */
	LK_REFUSED = 66,             /* the authority or the host refuses; lk_terminal_detail says what it says */
	LK_CERTIFICATE_REFUSED = 67, /* the host does not let the terminal in with its certificate */
	LK_ASSIGNMENT = 68,          /* what is set up for the terminal is not complete: its operator has to look */
	LK_UNREACHABLE = 69,         /* no answer in time; nothing was kept */
	LK_UNANSWERED = 70,          /* no answer; the sale is kept, and lk_terminal_drain settles it. lk_terminal_detail says why */
	LK_ACK = 71,                 /* the answer is not genuine */
	LK_QUEUE = 72,               /* too many sales have been made since the oldest unanswered one: lk_terminal_drain first */
	LK_OFFLINE = 73,             /* the host does not allow this sale without it */
	LK_SALE = 74,                /* the sale is incomplete or contradicts itself; nothing was used or sent */
	LK_BEHIND = 75,              /* kept for its number: drain follows the host's counters by itself */
	LK_UNCONFIRMED = 76,         /* the host does not take a new key; the old one works on */
	LK_CLOSED = 77,              /* the terminal was closed during the call; a sale that is kept is LK_UNANSWERED */
	LK_MEDIUM = 78               /* the folder cannot be read or written; lk_terminal_detail says why */
};

typedef uint64_t lk_handle;

/* lk_version returns major << 16 | minor << 8 | patch of the library. */
uint32_t lk_version(void);

/* lk_has_link returns 1 for the whole library and 0 for the core. */
int lk_has_link(void);

/* lk_error_text returns what a code means, in English, for logs; never NULL. The text is static. */
const char *lk_error_text(int code);

/*
 * Values of specifications. 0 is the default where one is said, and otherwise nothing.
 */
enum lk_pin_format { LK_PIN_FORMAT_0 = 1, LK_PIN_FORMAT_1 = 2, LK_PIN_FORMAT_3 = 4, LK_PIN_FORMAT_4 = 5, LK_PIN_FORMAT_4_PAN12 = 6 };
enum lk_direction { LK_REQUEST = 1, LK_RESPONSE = 2, LK_BOTH = 3 };
enum lk_working_key { LK_TDES2 = 1, LK_TDES3 = 2, LK_AES128 = 3, LK_AES192 = 4, LK_AES256 = 5, LK_HMAC128 = 6, LK_HMAC192 = 7, LK_HMAC256 = 8 };
enum lk_mac_algorithm { LK_MAC_RETAIL = 1, LK_MAC_CMAC = 2, LK_MAC_CBC = 3, LK_MAC_HMAC_SHA256 = 4, LK_MAC_HMAC_SHA384 = 5, LK_MAC_HMAC_SHA512 = 6 };
enum lk_mac_padding { LK_MAC_PADDING_1 = 1, LK_MAC_PADDING_2 = 2, LK_MAC_PADDING_3 = 3 };
enum lk_data_profile { LK_DATA_ONE_WAY = 1, LK_DATA_MASK = 2, LK_DATA_PIN_VARIANT = 3, LK_DATA_BARE_KEY = 4 };
enum lk_mode { LK_CBC = 1, LK_ECB = 2 };
enum lk_data_padding { LK_DATA_PADDING_NONE = 0, LK_DATA_PADDING_ZERO = 1, LK_DATA_PADDING_ISO9797_M2 = 2, LK_DATA_PADDING_PKCS7 = 3 };

/* lk_mac_spec says how a message is MACed. A NULL one is the scheme's: retail MAC with padding 2, or CMAC under AES-128. */
typedef struct lk_mac_spec {
	uint32_t size;      /* sizeof(lk_mac_spec) */
	uint32_t algorithm; /* lk_mac_algorithm */
	uint32_t direction; /* lk_direction; 0: request for a MAC that is made, response for one that is verified */
	uint32_t key;       /* lk_working_key under AES; 0 under TDES */
	uint32_t padding;   /* lk_mac_padding of LK_MAC_RETAIL and LK_MAC_CBC; 0 for the others */
	uint32_t length;    /* bytes that are kept from the left: 4 to a block, or half to all of an HMAC */
} lk_mac_spec;

/* lk_data_spec says how data is encrypted. A NULL one is the scheme's: CBC from zeros, the standard's key or an AES-128 one. */
typedef struct lk_data_spec {
	uint32_t size;      /* sizeof(lk_data_spec) */
	uint32_t direction; /* lk_direction: LK_REQUEST or LK_BOTH to the host, LK_RESPONSE or LK_BOTH from it */
	uint32_t profile;   /* lk_data_profile under TDES; 0 under AES */
	uint32_t key;       /* lk_working_key under AES; 0 under TDES */
	uint32_t mode;      /* lk_mode */
	uint32_t padding;   /* lk_data_padding */
	const uint8_t *iv;  /* one block, or NULL for zeros */
	size_t iv_len;
} lk_data_spec;

/*
 * DUKPT: the registers of one initial key, which the caller keeps.
 *
 * A transaction is lk_dukpt_begin, what is made with its key, and lk_dukpt_end, which destroys the key. Before the first key
 * of a batch is handed out the library calls save with the registers that follow the whole batch. When save returns 0 they
 * must be on the medium for good: fsynced, and beyond a power cut. Then no cut makes a key serve twice; it loses the rest of a
 * batch at most. State that is put back to an older one cannot be told here from the real one.
 *
 * The state holds secret registers. Seal it before it leaves the device's protection, and wipe copies.
 */

/* lk_save makes state durable and returns 0; another number means that it is not, and comes back as LK_SAVE. */
typedef int (*lk_save)(void *context, const uint8_t *state, size_t state_len);

/*
 * lk_dukpt_load loads an initial key with the KSN that names it: 10 bytes for TDES with a key of 16, 12 for AES with one of
 * 16, 24 or 32. The counter in the KSN is not looked at. batch is how many keys are made ready at once, 1 to 32, or 0 for 8.
 * The caller wipes its key. Nothing is saved before the first transaction. LK_KSN, LK_KEY.
 */
int lk_dukpt_load(const uint8_t *ksn, size_t ksn_len, const uint8_t *key, size_t key_len, uint32_t batch, lk_save save,
	void *context, lk_handle *handle);

/* lk_dukpt_open goes on from what was saved last. LK_STATE for anything else, be it one bit. */
int lk_dukpt_open(const uint8_t *state, size_t state_len, uint32_t batch, lk_save save, void *context, lk_handle *handle);

/* lk_dukpt_begin takes the next key and writes its KSN, 10 or 12 bytes. LK_ORDER while a transaction is under way,
 * LK_EXHAUSTED, LK_SAVE. */
int lk_dukpt_begin(lk_handle handle, uint8_t *ksn, size_t *ksn_len);

/* lk_dukpt_pin writes the encrypted PIN block: 8 bytes under TDES, 16 under AES. pin and pan are ASCII digits. Format 1 takes
 * no pan, which may be NULL. LK_PIN, LK_PAN, LK_UNSUPPORTED for a format that does not go with the scheme. */
int lk_dukpt_pin(lk_handle handle, uint32_t format, const char *pin, size_t pin_len, const char *pan, size_t pan_len,
	uint8_t *block, size_t *block_len);

/* lk_dukpt_data encrypts plain for the host. Without padding its length is a multiple of the block. */
int lk_dukpt_data(lk_handle handle, const lk_data_spec *spec, const uint8_t *plain, size_t plain_len,
	uint8_t *cipher, size_t *cipher_len);

/* lk_dukpt_mac writes the MAC of a message to the host. */
int lk_dukpt_mac(lk_handle handle, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
	uint8_t *mac, size_t *mac_len);

/* lk_dukpt_verify checks the MAC of the host's answer. LK_VERIFY. */
int lk_dukpt_verify(lk_handle handle, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
	const uint8_t *mac, size_t mac_len);

/* lk_dukpt_decrypt decrypts data in the host's answer. A NULL spec is the scheme's, with the direction LK_RESPONSE. Verify the
 * MAC first. LK_VERIFY when the padding is wrong. */
int lk_dukpt_decrypt(lk_handle handle, const lk_data_spec *spec, const uint8_t *cipher, size_t cipher_len,
	uint8_t *plain, size_t *plain_len);

/* lk_dukpt_end destroys the key of the transaction. Without one it does nothing. */
int lk_dukpt_end(lk_handle handle);

/* lk_dukpt_skip gives up the keys before ksn, durably. One that is not ahead is LK_KSN. LK_ORDER while a transaction is
 * under way. */
int lk_dukpt_skip(lk_handle handle, const uint8_t *ksn, size_t ksn_len);

typedef struct lk_dukpt_status {
	uint32_t size;        /* sizeof(lk_dukpt_status) */
	uint32_t live;        /* 1 while a transaction is under way */
	uint32_t remaining;   /* keys left */
	uint32_t state_len;   /* bytes of a saved state */
	uint32_t next_len;    /* of next; 0 when the keys are used up */
	uint8_t next[12];     /* KSN of the next key */
} lk_dukpt_status;

/* lk_dukpt_describe fills status. */
int lk_dukpt_describe(lk_handle handle, lk_dukpt_status *status);

/* lk_dukpt_close wipes the keys in memory. What was saved stays. */
int lk_dukpt_close(lk_handle handle);

/*
 * The terminal: the whole library only. A core has none of these functions.
 *
 * The usual path: lk_terminal_new with the folder that keeps its state; once, lk_terminal_enrol with the ticket from the slip of
 * paper; at each start lk_terminal_open and lk_terminal_sign_in; then lk_terminal_sale for each customer. A sale that nobody has
 * answered is kept, and lk_terminal_drain settles it. lk_terminal_renew and lk_terminal_rekey once a day, at a random minute.
 *
 * Times are seconds since 1970. Every call that uses the network takes how long it may last, in milliseconds; 0 is 30 seconds.
 */

/* lk_sealer encrypts and authenticates what lies in the folder, under a key of the device. Both functions write into a buffer of
 * *n bytes and must set *n to what they have written: seal, whose buffer is 257 bytes longer than what it is given, to 1 byte at
 * least and less than the whole buffer; open, whose buffer is as long as what it is given, to less than that. A *n that is left as
 * it was is LK_ENGINE. label is bound to what is sealed: open fails under another one. They return 0, LK_STATE for what was
 * altered, or another number. */
typedef struct lk_sealer {
	uint32_t size;    /* sizeof(lk_sealer) */
	const char *name; /* what guards the key, for people; not "insecure-file" */
	void *context;
	int (*seal)(void *context, const char *label, const uint8_t *plain, size_t plain_len, uint8_t *sealed, size_t *n);
	int (*open)(void *context, const char *label, const uint8_t *sealed, size_t sealed_len, uint8_t *plain, size_t *n);
} lk_sealer;

typedef struct lk_slot_status {
	uint32_t size;       /* sizeof(lk_slot_status) */
	uint32_t slot;       /* its number; + LK_STAGED for the key that waits to follow the one in use */
	uint32_t ksn_len;    /* of the two below */
	uint8_t key_id[12];  /* KSN with counter 0 */
	uint8_t next[12];    /* what the next transaction takes; zeros when the keys are used up */
	uint32_t used_up;    /* 1: there is no next one */
	uint32_t remaining;  /* keys left */
	uint32_t confirmed;  /* 1: the host has answered a sign-in with this key; an engine leaves it 0 */
	uint64_t jumped;     /* ordinals given up on the host's word */
	uint64_t jump_limit; /* the most of them */
} lk_slot_status;

#define LK_STAGED 0x80u

/* lk_engine is a secure processor that holds the keys of DUKPT, in the place of the library's own engine: keys and, with a keypad,
 * PINs never leave it. Every function is required. One thread calls at a time.
 *
 * A slot has one transaction under way at most, from begin to end. Functions return LK_OK, LK_ORDER outside of a transaction, or inside of one
 * where there must be none, LK_SLOT for a slot that is not there, LK_ZEROIZED after zeroize, and the codes said here. Any other number
 * comes back as LK_ENGINE, and so do LK_ORDER and LK_LENGTH, because a call may have used a key by then. Outputs are a buffer of *n
 * bytes, longer than any block, MAC or KSN, and *n must be set to what was written: left as it was, it is LK_ENGINE.
 * Numbers of slots may have LK_STAGED added, but for stage and replace.
 *
 * begin takes the next key: that it is spent is durable before begin returns. LK_EXHAUSTED.
 * encrypt_pin: pin NULL asks for the PIN on the engine's own keypad. LK_NO_KEYPAD. pan is digits, and none for format 1. While it
 *   waits for fingers it must return at once, with any other number, when the device is tampered with or the terminal is to be closed:
 *   lk_terminal_zeroize and lk_terminal_close wait for it.
 * encrypt_data: LK_LENGTH when plain is not whole blocks. verify: LK_VERIFY.
 * end destroys the key of the transaction; without one it does nothing.
 * skip gives up the keys before ksn, durably; one that is not ahead is LK_OK and changes nothing. LK_KSN for another key, LK_JUMP
 *   for more than max_jump ordinals at once, LK_JUMP_BUDGET beyond jump_limit in all.
 * stage takes an initial key to follow the one in a slot, durably, in the place of one staged before.
 * replace destroys the key of a slot and puts the staged one in its place, with all that it has used and skipped.
 * status describes the key of that index, in the order of their numbers, staged ones last; LK_END after them. Another number leaves
 *   out the key of that index only.
 * zeroize destroys all keys, and may be repeated.
 */
typedef struct lk_engine {
	uint32_t size; /* sizeof(lk_engine) */
	void *context;
	int (*begin)(void *context, uint32_t slot, uint8_t *ksn, size_t *n);
	int (*encrypt_pin)(void *context, uint32_t slot, uint32_t format, const uint8_t *pin, size_t pin_len,
		const uint8_t *pan, size_t pan_len, uint8_t *block, size_t *n);
	int (*encrypt_data)(void *context, uint32_t slot, const lk_data_spec *spec, const uint8_t *plain, size_t plain_len,
		uint8_t *cipher, size_t *n);
	int (*mac)(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
		uint8_t *mac, size_t *n);
	int (*verify)(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
		const uint8_t *mac, size_t mac_len);
	void (*end)(void *context, uint32_t slot);
	int (*skip)(void *context, uint32_t slot, const uint8_t *ksn, size_t ksn_len);
	int (*stage)(void *context, uint32_t slot, const uint8_t *ksn, size_t ksn_len, const uint8_t *key, size_t key_len,
		uint32_t max_jump);
	int (*replace)(void *context, uint32_t slot);
	int (*status)(void *context, uint32_t index, lk_slot_status *status);
	int (*zeroize)(void *context);
} lk_engine;

typedef struct lk_options {
	uint32_t size;           /* sizeof(lk_options) */
	const char *folder;      /* which exists, is the terminal's alone, and survives power cuts. Required */
	const lk_sealer *sealer; /* NULL: a key in the folder, which protects nothing and is refused for production. Copied */
	const lk_engine *engine; /* NULL: the keys are computed with in memory, and sealed. Copied */
	uint32_t reserve;        /* keys made ready at once, 1 to 32; 0: 8 */
} lk_options;

/* lk_terminal_new makes a handle. Nothing is read or written yet. */
int lk_terminal_new(const lk_options *options, lk_handle *terminal);

/* lk_terminal_detail writes what the last call that failed says, for logs and for people, with no secret in it; after
 * lk_terminal_doctor what it has found. n counts the 0 at the end. */
int lk_terminal_detail(lk_handle terminal, char *text, size_t *n);

typedef struct lk_enrolment {
	uint32_t size;          /* sizeof(lk_enrolment) */
	uint32_t environment;   /* lk_environment. An authority of the other is refused. Required */
	const char *url;        /* of the registration authority: https://HOST:PORT */
	const char *trust_url;  /* where the trust list is published: http://HOST:PORT */
	const char *tenant;     /* whose terminal it is */
	const char *terminal;   /* its name */
	const char *ticket;     /* from the slip of paper. NULL goes on with an enrolment that was interrupted */
	size_t ticket_len;
	uint32_t curve;         /* lk_curve of the agreement key; 0: P-256 */
} lk_enrolment;

enum lk_environment { LK_TEST = 1, LK_PRODUCTION = 2 };
enum lk_curve { LK_P256 = 256, LK_P384 = 384, LK_P521 = 521 };

/* lk_terminal_enrol makes the terminal in its folder, with certificate and initial keys from the registration authority. After any
 * error and any power cut it may be repeated; the ticket is not spent twice. Initial keys go to the engine, if there
 * is one; they come through memory on their way. The library wipes its copy of the ticket. */
int lk_terminal_enrol(lk_handle terminal, const lk_enrolment *enrolment, uint32_t timeout_ms);

/* lk_terminal_doctor looks at everything a sale needs, from the state to each host, and changes nothing. broken becomes how many
 * things keep sales from working. lk_terminal_detail has one line for each: verdict, name, which one, what was found and what to
 * do, with tabs between. Before lk_terminal_open only. */
int lk_terminal_doctor(lk_handle terminal, uint32_t timeout_ms, uint32_t *broken);

/* lk_terminal_open starts the terminal. LK_NO_TERMINAL before it was enrolled. */
int lk_terminal_open(lk_handle terminal);

/* What became of a message. */
enum lk_outcome {
	LK_APPROVED = 1, LK_DECLINED = 2,
	LK_HELD = 3,     /* the terminal is blocked: the message is kept, and may be resent */
	LK_REVERSED = 4, /* it was reversed before it arrived */
	LK_SIGNED_IN = 5,
	LK_ROLLED_BACK = 6, /* the host has seen a later state of this terminal */
	LK_KSN_REPLAYED = 7, LK_KSN_SPENT = 8, LK_KSN_TOO_OLD = 9, LK_KSN_FENCED = 10, LK_KSN_OUT_OF_WINDOW = 11,
	LK_PIN_BLOCK_INVALID = 12, /* the PIN block does not verify */
	LK_MESSAGE_REFUSED = 13,   /* the message breaks another rule of its key set */
	LK_OTHER = 255             /* the host has answered in a way that has no number here; not approved */
};

typedef struct lk_result {
	uint32_t size;      /* sizeof(lk_result) */
	uint32_t outcome;   /* lk_outcome; 0 for a sale that was made without the host */
	uint32_t reversal;  /* 1: the reversal of the sale was answered, not the sale */
	uint32_t ksn_len;
	uint8_t ksn[12];    /* of the MAC of the message */
	uint32_t body_len;  /* of what the acquirer says: lk_terminal_body */
	uint64_t sequence;  /* of the sale */
	int64_t host_time;  /* by the host's clock; 0 without it */
	uint8_t digest[32]; /* of the sale */
} lk_result;

/* lk_terminal_sign_in tells the host that the terminal is there, and confirms its keys. */
int lk_terminal_sign_in(lk_handle terminal, uint32_t timeout_ms, lk_result *result);

typedef struct lk_sale {
	uint32_t size;       /* sizeof(lk_sale) */
	uint32_t exponent;   /* decimals of the currency: 12.34 euro is 1234, 2, "EUR" */
	int64_t amount;      /* in the smallest unit of the currency */
	char currency[4];    /* three upper-case letters and a 0 */
	uint32_t ask_pin;    /* 1: the engine takes the PIN on its own keypad */
	const char *track;   /* what a reader has read of track 1 or 2; or NULL, with pan */
	size_t track_len;
	const char *pan;     /* the card number as it was typed; or NULL, with track */
	size_t pan_len;
	const char *pin;     /* NULL: no PIN */
	size_t pin_len;
	const uint8_t *body; /* what travels to the acquirer as it is, under the MAC but not encrypted; no card data */
	size_t body_len;
} lk_sale;

/* lk_terminal_sale makes one sale, and waits for its answer. LK_UNANSWERED, whatever the reason: it is kept, and may have been sent.
 * Whoever gets LK_OK looks at the outcome. */
int lk_terminal_sale(lk_handle terminal, const lk_sale *sale, uint32_t timeout_ms, lk_result *result);

/* lk_terminal_sale_offline makes one sale without the host, as far as the host has allowed; it waits to be drained. */
int lk_terminal_sale_offline(lk_handle terminal, const lk_sale *sale, lk_result *result);

/* lk_settled hears of a sale that has been answered. */
typedef void (*lk_settled)(void *context, const lk_result *result);

/* lk_terminal_drain settles the sales that wait, the oldest first: those without a PIN are sent again, those with one reversed.
 * settled may be NULL. */
int lk_terminal_drain(lk_handle terminal, uint32_t timeout_ms, lk_settled settled, void *context);

/* lk_terminal_body writes what the acquirer said to the last call that set a result, through this handle. */
int lk_terminal_body(lk_handle terminal, uint8_t *body, size_t *n);

typedef struct lk_queue {
	uint32_t size;         /* sizeof(lk_queue) */
	uint32_t count;        /* sales without an answer */
	uint32_t bytes;        /* of their messages */
	uint32_t exceptions;   /* messages that the host did not take */
	uint32_t currencies;   /* for lk_terminal_queue_amount */
	uint32_t offline;      /* 1: the host allows sales without it, within the limits below */
	int64_t oldest;        /* when the oldest was made; 0 when none waits */
	uint32_t limit_count;
	uint32_t limit_bytes;
	uint32_t limit_age;    /* seconds */
	uint32_t limit_exponent;
	int64_t limit_amount;
	char limit_currency[4];
} lk_queue;

/* lk_terminal_queue says what waits for the host. It does not wait for another call. */
int lk_terminal_queue(lk_handle terminal, lk_queue *queue);

/* lk_terminal_queue_amount says how much waits, by currency; LK_END after the last. currency has 4 bytes. */
int lk_terminal_queue_amount(lk_handle terminal, uint32_t index, int64_t *amount, uint32_t *exponent, char *currency);

typedef struct lk_status {
	uint32_t size;        /* sizeof(lk_status) */
	uint32_t environment; /* lk_environment */
	char tenant[33];
	char terminal[33];
	uint64_t starts;
	int64_t not_after;    /* of the certificate */
	int64_t renew_after;  /* when to renew it at the earliest, and at the latest; 0 without an authority */
	int64_t renew_before;
	uint32_t slots;       /* for lk_terminal_slot: keys in use, then those that wait */
} lk_status;

/* lk_terminal_status describes the terminal, lk_terminal_slot one of its keys; LK_END after the last. */
int lk_terminal_status(lk_handle terminal, lk_status *status);
int lk_terminal_slot(lk_handle terminal, uint32_t index, lk_slot_status *status);

/* lk_terminal_renew gets the next certificate if its time has come; lk_terminal_rekey gets the keys that the operator has ordered, and
 * confirms them. Both are LK_OK when there is nothing to do. */
int lk_terminal_renew(lk_handle terminal, uint32_t timeout_ms);
int lk_terminal_rekey(lk_handle terminal, uint32_t timeout_ms);

/* lk_terminal_run does in the background what a terminal has to do: it settles the sales that wait, without a rush of all terminals when
 * a host is back, and renews the certificate inside the authority's window. It returns LK_CLOSED when the terminal is closed: call it
 * on a thread of its own, once, after lk_terminal_open. settled may be NULL, and is called on threads of the library. What did not work
 * and is tried again stands in lk_terminal_detail. */
int lk_terminal_run(lk_handle terminal, lk_settled settled, void *context);

/* lk_terminal_dial connects to a host, "https://HOST:PORT", over the terminal's mutual TLS, for another protocol than that of messages:
 * ISO 8583 behind two bytes of length, perhaps. Only host and port count. Whether the host takes the certificate is known with the first
 * byte that it sends. The connection ends with the terminal, or when the network changes; its number is to be closed all the same. */
int lk_terminal_dial(lk_handle terminal, const char *endpoint, uint32_t timeout_ms, lk_handle *connection);

/* lk_connection_read writes what has come, one byte at least and as many as there is room for; LK_END when the host has ended the
 * connection, LK_UNREACHABLE when nothing has come in time, and then it may be called again. lk_connection_write sends all of the
 * data; after any code but LK_OK, LK_BUSY and those of wrong calls it is not known how much, and the connection is of no more use. One
 * thread may read while another one writes. */
int lk_connection_read(lk_handle connection, uint32_t timeout_ms, uint8_t *data, size_t *n);
int lk_connection_write(lk_handle connection, uint32_t timeout_ms, const uint8_t *data, size_t data_len);

/* lk_connection_close ends the calls that are under way with LK_CLOSED, and closes the number. */
int lk_connection_close(lk_handle connection);

/* lk_terminal_network_changed has connections made anew, when the device has changed networks. */
int lk_terminal_network_changed(lk_handle terminal);

/* lk_terminal_zeroize destroys keys, identity and unsettled sales, and may be repeated until it is LK_OK. The handle is to be
 * closed. */
int lk_terminal_zeroize(lk_handle terminal);

/* lk_terminal_close ends the calls that are under way, waits for them, and closes the handle. */
int lk_terminal_close(lk_handle terminal);

#ifdef __cplusplus
}
#endif

#endif
