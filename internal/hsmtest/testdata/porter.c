// A PKCS#11 module in front of SoftHSM that carries a block from key to key by ECB, as a wrapped key, which SoftHSM 2.6.1 does
// not and later tokens do. It is for tests: it keeps carried blocks in its own memory. REAL is the path of the module behind it. While
// there is a file DIR/hang, derivations do not return.
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef struct { ulong type; void *value; ulong length; } attribute;
typedef struct { ulong code; void *parameter; ulong length; } mechanism;

// The function list of PKCS#11 2.40 after its version, by place.
enum { CREATE = 20, ENCRYPT_INIT = 29, ENCRYPT = 30, DECRYPT_INIT = 33, DECRYPT = 34, WRAP = 60, UNWRAP = 61, DERIVE = 62, FUNCTIONS = 68 };
typedef struct { unsigned char version[2]; void *call[FUNCTIONS]; } functions;

enum { VALUE = 0x011, ENCRYPTS = 0x104, DECRYPTS = 0x105, WRAPS = 0x106, UNWRAPS = 0x107, EXTRACTABLE = 0x162, MOST = 64, BLOCK = 16 };
enum { OK = 0, GENERAL = 5, ARGUMENTS = 7, UNEXTRACTABLE = 0x6A, DES3_ECB = 0x132, AES_ECB = 0x1081 };

static functions real, ours;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { ulong object, length; unsigned char block[BLOCK]; } carried[256]; // handles of SoftHSM only grow
static unsigned next;

typedef ulong (*create)(ulong, attribute *, ulong, ulong *);
typedef ulong (*begin)(ulong, mechanism *, ulong);
typedef ulong (*cipher)(ulong, unsigned char *, ulong, unsigned char *, ulong *);
typedef ulong (*wrap)(ulong, mechanism *, ulong, ulong, unsigned char *, ulong *);
typedef ulong (*unwrap)(ulong, mechanism *, ulong, unsigned char *, ulong, attribute *, ulong, ulong *);
typedef ulong (*derive)(ulong, mechanism *, ulong, attribute *, ulong, ulong *);

static int on(attribute *t, ulong n, ulong type) {
	for (ulong i = 0; i < n; i++)
		if (t[i].type == type) return t[i].length == 1 && *(unsigned char *)t[i].value != 0;
	return 0;
}

// grant lets keys that unwrap decrypt, and those that wrap encrypt: so are blocks carried here.
static void grant(attribute *to, attribute *t, ulong n) {
	static unsigned char yes = 1;
	for (ulong i = 0; i < n; i++) {
		to[i] = t[i];
		if ((t[i].type == DECRYPTS && on(t, n, UNWRAPS)) || (t[i].type == ENCRYPTS && on(t, n, WRAPS))) to[i].value = &yes;
	}
}

static ulong createObject(ulong session, attribute *t, ulong n, ulong *object) {
	attribute granted[MOST];
	if (n > MOST) return ARGUMENTS;
	grant(granted, t, n);
	return ((create)real.call[CREATE])(session, granted, n, object);
}

static ulong deriveKey(ulong session, mechanism *m, ulong base, attribute *t, ulong n, ulong *object) {
	attribute granted[MOST];
	while (access(DIR "/hang", F_OK) == 0) usleep(10000);
	if (n > MOST) return ARGUMENTS;
	grant(granted, t, n);
	return ((derive)real.call[DERIVE])(session, m, base, granted, n, object);
}

static ulong unwrapKey(ulong session, mechanism *m, ulong key, unsigned char *in, ulong length, attribute *t, ulong n, ulong *object) {
	attribute with[MOST + 1];
	unsigned char block[BLOCK];
	ulong size = sizeof block;
	if ((m->code != AES_ECB && m->code != DES3_ECB) || length > BLOCK)
		return ((unwrap)real.call[UNWRAP])(session, m, key, in, length, t, n, object);
	if (n > MOST) return ARGUMENTS;
	if (!on(t, n, EXTRACTABLE)) return UNEXTRACTABLE; // what is unwrapped could not be wrapped
	ulong rv = ((begin)real.call[DECRYPT_INIT])(session, m, key);
	if (rv == OK) rv = ((cipher)real.call[DECRYPT])(session, in, length, block, &size);
	if (rv != OK) return rv;
	memcpy(with, t, n * sizeof *t);
	with[n] = (attribute){VALUE, block, size};
	rv = ((create)real.call[CREATE])(session, with, n + 1, object);
	if (rv != OK) return rv;
	pthread_mutex_lock(&lock);
	unsigned at = next++ % (sizeof carried / sizeof *carried);
	carried[at].object = *object;
	carried[at].length = size;
	memcpy(carried[at].block, block, size);
	pthread_mutex_unlock(&lock);
	return OK;
}

static ulong wrapKey(ulong session, mechanism *m, ulong key, ulong object, unsigned char *out, ulong *length) {
	unsigned char block[BLOCK];
	ulong size = 0;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < sizeof carried / sizeof *carried; i++)
		if (carried[i].object == object && (size = carried[i].length)) memcpy(block, carried[i].block, size);
	pthread_mutex_unlock(&lock);
	if ((m->code != AES_ECB && m->code != DES3_ECB) || size == 0)
		return ((wrap)real.call[WRAP])(session, m, key, object, out, length);
	if (out == NULL) {
		*length = size;
		return OK;
	}
	ulong rv = ((begin)real.call[ENCRYPT_INIT])(session, m, key);
	return rv == OK ? ((cipher)real.call[ENCRYPT])(session, block, size, out, length) : rv;
}

ulong C_GetFunctionList(functions **list) {
	void *module = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
	ulong (*get)(functions **) = module ? (ulong (*)(functions **))dlsym(module, "C_GetFunctionList") : NULL;
	functions *theirs;
	if (get == NULL || get(&theirs) != OK) return GENERAL;
	real = ours = *theirs;
	ours.call[CREATE] = (void *)createObject;
	ours.call[DERIVE] = (void *)deriveKey;
	ours.call[UNWRAP] = (void *)unwrapKey;
	ours.call[WRAP] = (void *)wrapKey;
	*list = &ours;
	return OK;
}
