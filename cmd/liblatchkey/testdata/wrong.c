/*
 * wrong makes every wrong call of the core that latchkey.h speaks of, under AddressSanitizer, and says how many calls gave which
 * code. It ends with 1 when a call gives another one. Buffers are on the heap, exactly as long as they may be, so that a byte
 * too many is one of somebody else.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

static const uint8_t tdes_ksn[10] = {0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, 0};
static const uint8_t aes_ksn[12] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0, 0, 0, 0};
static const uint8_t key[32] = {
	0x6a, 0xc2, 0x92, 0xfa, 0xa1, 0x31, 0x5b, 0x4d, 0x85, 0x8a, 0xb3, 0xa3, 0xd7, 0xd5, 0x93, 0x3a,
	0x12, 0x73, 0x67, 0x1e, 0xa2, 0x6a, 0xc2, 0x9a, 0xfa, 0x4d, 0x10, 0x84, 0x12, 0x76, 0x52, 0xa1};

static int faults, calls, seen[128];

#define WANT(code, call) want(code, call, #call, __LINE__)

static void want(int expected, int got, const char *call, int line)
{
	calls++;
	if (got >= 0 && got < 128)
		seen[got]++;
	if (got == expected)
		return;
	faults++;
	printf("line %d: %s gives %d (%s), want %d\n", line, call, got, lk_error_text(got), expected);
}

static void need(size_t expected, size_t got, int line)
{
	if (got == expected)
		return;
	faults++;
	printf("line %d: %zu bytes needed, want %zu\n", line, got, expected);
}

/* The callback: what it saves, and what it is to do besides. */
struct saver {
	uint8_t state[2048];
	size_t n;
	int refuse, calls, again;
	lk_handle self;
};

static int save(void *context, const uint8_t *state, size_t n)
{
	struct saver *s = context;

	s->calls++;
	if (s->self)
		s->again = lk_dukpt_end(s->self);
	if (s->refuse)
		return s->refuse;
	memcpy(s->state, state, n);
	s->n = n;
	return 0;
}

static lk_handle load(struct saver *s, const uint8_t *ksn, size_t n)
{
	lk_handle h = 0;

	memset(s, 0, sizeof *s);
	WANT(LK_OK, lk_dukpt_load(ksn, n, key, 16, 2, save, s, &h));
	return h;
}

static void begin(lk_handle h)
{
	uint8_t ksn[12];
	size_t n = sizeof ksn;

	WANT(LK_OK, lk_dukpt_begin(h, ksn, &n));
}

static void loading(void)
{
	struct saver s;
	lk_handle h = 0;
	union { lk_handle h; uint8_t b[16]; } both;

	memset(&s, 0, sizeof s);
	WANT(LK_ARGUMENT, lk_dukpt_load(NULL, 10, key, 16, 0, save, &s, &h));
	WANT(LK_ARGUMENT, lk_dukpt_load(tdes_ksn, 10, NULL, 16, 0, save, &s, &h));
	WANT(LK_ARGUMENT, lk_dukpt_load(tdes_ksn, 10, key, 16, 0, NULL, &s, &h));
	WANT(LK_ARGUMENT, lk_dukpt_load(tdes_ksn, 10, key, 16, 0, save, &s, NULL));
	WANT(LK_ARGUMENT, lk_dukpt_load(tdes_ksn, 10, key, 16, 33, save, &s, &h));
	WANT(LK_LENGTH, lk_dukpt_load(tdes_ksn, 10, key, (size_t)-1, 0, save, &s, &h));
	WANT(LK_LENGTH, lk_dukpt_load(tdes_ksn, LK_MAX_INPUT + 1, key, 16, 0, save, &s, &h));
	WANT(LK_KSN, lk_dukpt_load(tdes_ksn, 9, key, 16, 0, save, &s, &h));
	WANT(LK_KSN, lk_dukpt_load(NULL, 0, key, 16, 0, save, &s, &h));
	WANT(LK_KEY, lk_dukpt_load(tdes_ksn, 10, key, 24, 0, save, &s, &h));
	WANT(LK_KEY, lk_dukpt_load(tdes_ksn, 10, NULL, 0, 0, save, &s, &h));
	WANT(LK_KEY, lk_dukpt_load(aes_ksn, 12, key, 17, 0, save, &s, &h));
	memset(both.b, 0, sizeof both.b);
	WANT(LK_KEY, lk_dukpt_load(aes_ksn, 12, (uint8_t[16]){0}, 16, 0, save, &s, &h));
	WANT(LK_OVERLAP, lk_dukpt_load(tdes_ksn, 10, both.b, 16, 0, save, &s, &both.h));
	if (h || both.h) {
		faults++;
		printf("a call that failed has set the handle\n");
	}
	WANT(LK_STATE, lk_dukpt_open(key, 16, 0, save, &s, &h));
	WANT(LK_STATE, lk_dukpt_open(NULL, 0, 0, save, &s, &h));
	WANT(LK_ARGUMENT, lk_dukpt_open(NULL, 374, 0, save, &s, &h));
	WANT(LK_ARGUMENT, lk_dukpt_open(key, 16, 0, NULL, &s, &h));
}

static void order(void)
{
	struct saver s;
	lk_handle h = load(&s, tdes_ksn, sizeof tdes_ksn), other;
	uint8_t out[32], m[1] = {1}, *ksn = malloc(9), *right = malloc(10);
	size_t n = 9;
	lk_dukpt_status st = {sizeof st, 0, 0, 0, 0, {0}};

	WANT(LK_ARGUMENT, lk_dukpt_describe(h, NULL));
	st.size = 4;
	WANT(LK_ARGUMENT, lk_dukpt_describe(h, &st));
	st.size = sizeof st;
	WANT(LK_SHORT_BUFFER, lk_dukpt_begin(h, ksn, &n));
	need(10, n, __LINE__);
	n = 0;
	WANT(LK_SHORT_BUFFER, lk_dukpt_begin(h, NULL, &n));
	need(10, n, __LINE__);
	WANT(LK_ARGUMENT, lk_dukpt_begin(h, ksn, NULL));
	if (s.calls) {
		faults++;
		printf("a short buffer has saved a state\n");
	}
	n = sizeof out;
	WANT(LK_ORDER, lk_dukpt_mac(h, NULL, m, 1, out, &n));
	WANT(LK_ORDER, lk_dukpt_data(h, NULL, m, 1, out, &n));
	WANT(LK_ORDER, lk_dukpt_decrypt(h, NULL, m, 1, out, &n));
	WANT(LK_ORDER, lk_dukpt_pin(h, LK_PIN_FORMAT_0, "1234", 4, "4012345678909", 13, out, &n));
	WANT(LK_ORDER, lk_dukpt_verify(h, NULL, m, 1, m, 1));
	WANT(LK_OK, lk_dukpt_end(h));
	s.refuse = 7;
	n = 10;
	WANT(LK_SAVE, lk_dukpt_begin(h, right, &n));
	s.refuse = 0;
	s.self = h;
	WANT(LK_OK, lk_dukpt_begin(h, right, &n));
	WANT(LK_BUSY, s.again);
	s.self = 0;
	if (right[9] != 1) {
		faults++;
		printf("the first key has counter %d, want 1: a failed call has used one\n", right[9]);
	}
	WANT(LK_ORDER, lk_dukpt_begin(h, right, &n));
	WANT(LK_ORDER, lk_dukpt_skip(h, right, 10));
	WANT(LK_OK, lk_dukpt_end(h));
	WANT(LK_OK, lk_dukpt_end(h));
	WANT(LK_KSN, lk_dukpt_skip(h, right, 10));
	WANT(LK_KSN, lk_dukpt_skip(h, right, 9));
	WANT(LK_KSN, lk_dukpt_skip(h, NULL, 0));
	WANT(LK_ARGUMENT, lk_dukpt_skip(h, NULL, 10));
	WANT(LK_OK, lk_dukpt_describe(h, &st));
	need(s.n, st.state_len, __LINE__);
	WANT(LK_OK, lk_dukpt_open(s.state, s.n, 0, save, &s, &other));
	s.state[5] ^= 1;
	WANT(LK_STATE, lk_dukpt_open(s.state, s.n, 0, save, &s, &other));
	WANT(LK_OK, lk_dukpt_close(other));
	WANT(LK_OK, lk_dukpt_close(h));
	WANT(LK_HANDLE, lk_dukpt_close(h));
	WANT(LK_HANDLE, lk_dukpt_begin(h, right, &n));
	WANT(LK_HANDLE, lk_dukpt_end(h));
	WANT(LK_HANDLE, lk_dukpt_end(0));
	WANT(LK_HANDLE, lk_dukpt_describe((lk_handle)-1, &st));
	free(ksn);
	free(right);
}

/* Every call with an output, with each length of it below the needed one. */
static void buffers(const uint8_t *name, size_t name_len)
{
	struct saver s;
	lk_handle h = load(&s, name, name_len);
	size_t block = name_len == 10 ? 8 : 16, n, room;
	uint32_t format = name_len == 10 ? LK_PIN_FORMAT_0 : LK_PIN_FORMAT_4;
	uint8_t plain[16] = {0}, *out;

	begin(h);
	for (room = 0; room <= block; room++) {
		int code = room < block ? LK_SHORT_BUFFER : LK_OK;
		out = room ? malloc(room) : NULL;
		n = room;
		WANT(code, lk_dukpt_mac(h, NULL, plain, 16, out, &n));
		need(block, n, __LINE__);
		n = room;
		WANT(code, lk_dukpt_data(h, NULL, plain, block, out, &n));
		need(block, n, __LINE__);
		n = room;
		WANT(code, lk_dukpt_decrypt(h, NULL, plain, block, out, &n));
		need(block, n, __LINE__);
		n = room;
		WANT(code, lk_dukpt_pin(h, format, "1234", 4, "4012345678909", 13, out, &n));
		need(block, n, __LINE__);
		free(out);
	}
	WANT(LK_OK, lk_dukpt_close(h));
}

static void overlaps(void)
{
	struct saver s;
	lk_handle h = load(&s, aes_ksn, sizeof aes_ksn);
	union { uint8_t b[64]; char text[64]; lk_mac_spec mac; lk_data_spec data; size_t n[8]; } u;
	size_t n = 16;

	begin(h);
	memset(&u, 0, sizeof u);
	WANT(LK_OVERLAP, lk_dukpt_data(h, NULL, u.b, 16, u.b, &n));
	WANT(LK_OVERLAP, lk_dukpt_data(h, NULL, u.b, 16, u.b + 15, &n));
	WANT(LK_OVERLAP, lk_dukpt_data(h, NULL, u.b + 15, 16, u.b, &n));
	WANT(LK_OK, lk_dukpt_data(h, NULL, u.b, 16, u.b + 16, &n));
	WANT(LK_OVERLAP, lk_dukpt_decrypt(h, NULL, u.b, 16, u.b + 8, &n));
	WANT(LK_OVERLAP, lk_dukpt_mac(h, NULL, u.b, 32, u.b + 31, &n));
	WANT(LK_OVERLAP, lk_dukpt_pin(h, LK_PIN_FORMAT_4, u.text, 4, "4012345678909", 13, u.b, &n));
	WANT(LK_OVERLAP, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "1234", 4, u.text, 13, u.b + 12, &n));
	u.n[0] = 16;
	WANT(LK_OVERLAP, lk_dukpt_mac(h, NULL, (const uint8_t *)"m", 1, u.b, &u.n[0]));
	WANT(LK_OVERLAP, lk_dukpt_mac(h, NULL, u.b, 8, u.b + 32, &u.n[0]));
	memset(&u, 0, sizeof u);
	u.mac.size = sizeof u.mac;
	WANT(LK_OVERLAP, lk_dukpt_mac(h, &u.mac, (const uint8_t *)"m", 1, u.b + 8, &n));
	u.data.size = sizeof u.data;
	WANT(LK_OVERLAP, lk_dukpt_data(h, &u.data, key, 16, u.b + 8, &n));
	WANT(LK_OK, lk_dukpt_close(h));
}

static void values(void)
{
	struct saver s;
	lk_handle h = load(&s, aes_ksn, sizeof aes_ksn);
	uint8_t out[64];
	size_t n = sizeof out, i;
	lk_mac_spec m;
	lk_data_spec d;

	begin(h);
	WANT(LK_ARGUMENT, lk_dukpt_pin(h, 0, "1234", 4, "4012345678909", 13, out, &n));
	WANT(LK_ARGUMENT, lk_dukpt_pin(h, 7, "1234", 4, "4012345678909", 13, out, &n));
	WANT(LK_ARGUMENT, lk_dukpt_pin(h, 261, "1234", 4, "4012345678909", 13, out, &n));
	WANT(LK_UNSUPPORTED, lk_dukpt_pin(h, LK_PIN_FORMAT_0, "1234", 4, "4012345678909", 13, out, &n));
	WANT(LK_PIN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "123", 3, "4012345678909", 13, out, &n));
	WANT(LK_PIN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "12a4", 4, "4012345678909", 13, out, &n));
	WANT(LK_PIN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, NULL, 0, "4012345678909", 13, out, &n));
	WANT(LK_ARGUMENT, lk_dukpt_pin(h, LK_PIN_FORMAT_4, NULL, 4, "4012345678909", 13, out, &n));
	WANT(LK_PAN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "1234", 4, "4012345678909=1", 15, out, &n));
	WANT(LK_PAN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "1234", 4, "4012", 4, out, &n));
	WANT(LK_PAN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, "1234", 4, NULL, 0, out, &n));
	WANT(LK_LENGTH, lk_dukpt_data(h, NULL, key, 15, out, &n));
	WANT(LK_LENGTH, lk_dukpt_data(h, NULL, NULL, 0, out, &n));
	WANT(LK_LENGTH, lk_dukpt_decrypt(h, NULL, key, 17, out, &n));
	WANT(LK_VERIFY, lk_dukpt_verify(h, NULL, key, 16, key, 16));
	WANT(LK_VERIFY, lk_dukpt_verify(h, NULL, key, 16, NULL, 0));
	WANT(LK_ARGUMENT, lk_dukpt_verify(h, NULL, NULL, 16, key, 16));
	memset(&m, 0, sizeof m);
	WANT(LK_ARGUMENT, lk_dukpt_mac(h, &m, key, 16, out, &n));
	m.size = sizeof m + 8;
	WANT(LK_ARGUMENT, lk_dukpt_mac(h, &m, key, 16, out, &n));
	m.size = sizeof m;
	WANT(LK_UNSUPPORTED, lk_dukpt_mac(h, &m, key, 16, out, &n));
	m.algorithm = LK_MAC_CMAC, m.key = LK_AES256, m.length = 8;
	WANT(LK_STRENGTH, lk_dukpt_mac(h, &m, key, 16, out, &n));
	m.key = LK_AES128, m.length = 17;
	WANT(LK_LENGTH, lk_dukpt_mac(h, &m, key, 16, out, &n));
	for (i = 1; i < sizeof m / 4; i++) {
		((uint32_t *)&m)[i] += 256;
		WANT(LK_ARGUMENT, lk_dukpt_mac(h, &m, key, 16, out, &n));
		((uint32_t *)&m)[i] -= 256;
	}
	memset(&d, 0, sizeof d);
	d.size = sizeof d;
	WANT(LK_UNSUPPORTED, lk_dukpt_data(h, &d, key, 16, out, &n));
	d.direction = LK_REQUEST, d.key = LK_AES128, d.mode = LK_CBC, d.iv = key, d.iv_len = 15;
	WANT(LK_LENGTH, lk_dukpt_data(h, &d, key, 16, out, &n));
	d.iv = NULL;
	WANT(LK_ARGUMENT, lk_dukpt_data(h, &d, key, 16, out, &n));
	d.iv_len = 0, d.padding = 4;
	WANT(LK_ARGUMENT, lk_dukpt_data(h, &d, key, 16, out, &n));
	WANT(LK_OK, lk_dukpt_close(h));
}

/* Contexts that are no addresses, and addresses of nothing, at every depth of the stack: Go moves it when it has to grow, and looks at
 * what pointers are there. The calls in question come first at each depth, with keys that others have begun. */
enum { DEPTH = 60 };

static struct {
	int kind, depth;
	lk_handle begun[DEPTH + 1];
} odd;

static void deeper(void);

static int save_nothing(void *context, const uint8_t *state, size_t n)
{
	(void)context, (void)state, (void)n;
	return 0;
}

static int save_deeper(void *context, const uint8_t *state, size_t n)
{
	(void)state, (void)n;
	if ((size_t)context != (odd.kind ? 5000 : 7))
		faults++;
	if (odd.depth++ < DEPTH)
		deeper();
	return 0;
}

static void nothing(lk_handle h)
{
	uint8_t *none = (uint8_t *)(size_t)1;
	char *text = (char *)(size_t)7;
	lk_data_spec d = {sizeof d, LK_REQUEST, 0, LK_AES128, LK_CBC, LK_DATA_PADDING_PKCS7, none, 0};
	lk_handle other = 0;
	size_t n = 0;

	switch (odd.kind) {
	case 0:
		WANT(LK_STATE, lk_dukpt_open(none, 0, 0, save_nothing, text, &other));
		break;
	case 1:
		WANT(LK_KSN, lk_dukpt_load(none, 0, key, 16, 0, save_nothing, NULL, &other));
		break;
	case 2:
		WANT(LK_KEY, lk_dukpt_load(aes_ksn, 12, none, 0, 0, save_nothing, NULL, &other));
		break;
	case 3:
		WANT(LK_SHORT_BUFFER, lk_dukpt_mac(h, NULL, none, 0, none, &n));
		break;
	case 4:
		WANT(LK_SHORT_BUFFER, lk_dukpt_data(h, &d, none, 0, none, &n));
		break;
	case 5:
		n = 16;
		WANT(LK_LENGTH, lk_dukpt_decrypt(h, NULL, none, 0, (uint8_t[16]){0}, &n));
		break;
	case 6:
		WANT(LK_PIN, lk_dukpt_pin(h, LK_PIN_FORMAT_4, text, 0, text, 0, none, &n));
		break;
	case 7:
		WANT(LK_VERIFY, lk_dukpt_verify(h, NULL, none, 0, none, 0));
		break;
	case 8:
		WANT(LK_ORDER, lk_dukpt_begin(h, none, &n));
		break;
	case 9:
		WANT(LK_KSN, lk_dukpt_skip(h, none, 0));
	}
}

static void deeper(void)
{
	void *context = (void *)(size_t)(odd.kind ? 5000 : 7);
	lk_handle h = 0;

	nothing(odd.begun[odd.depth]);
	WANT(LK_OK, lk_dukpt_load(aes_ksn, 12, key, 16, 1, save_deeper, context, &h));
	begin(h);
	WANT(LK_OK, lk_dukpt_close(h));
}

/* from_the_top makes the calls of one kind, and has another thread make those of the next. A new thread begins with a stack that has not
 * grown, as long as those before it have theirs. */
static void *from_the_top(void *context)
{
	pthread_t next;
	int i;

	for (i = 0; i <= DEPTH; i++) {
		WANT(LK_OK, lk_dukpt_load(aes_ksn, 12, key, 16, 1, save_nothing, NULL, &odd.begun[i]));
		begin(odd.begun[i]);
	}
	odd.depth = 0;
	deeper();
	faults += odd.depth != DEPTH + 1;
	for (i = 0; i <= DEPTH; i++)
		WANT(LK_OK, lk_dukpt_close(odd.begun[i]));
	if (++odd.kind < 10) {
		if (pthread_create(&next, NULL, from_the_top, NULL))
			abort();
		pthread_join(next, NULL);
	}
	return context;
}

/* Two threads on one handle: each call works or is told so, and no KSN comes twice. */
struct worker {
	lk_handle h;
	pthread_barrier_t *start;
	int got, busy, other;
	uint32_t counters[4000];
};

static void *work(void *context)
{
	struct worker *w = context;
	uint8_t ksn[12];
	size_t n;
	int i;

	pthread_barrier_wait(w->start);
	for (i = 0; i < 4000; i++) {
		n = sizeof ksn;
		switch (lk_dukpt_begin(w->h, ksn, &n)) {
		case LK_OK:
			w->counters[w->got++] = (uint32_t)ksn[10] << 8 | ksn[11];
			while (lk_dukpt_end(w->h) == LK_BUSY)
				;
			break;
		case LK_BUSY:
		case LK_ORDER:
			w->busy++;
			break;
		default:
			w->other++;
		}
	}
	return NULL;
}

static void threads(void)
{
	static struct worker w[2];
	static uint8_t used[65536];
	struct saver s;
	lk_handle h = load(&s, aes_ksn, sizeof aes_ksn);
	pthread_barrier_t start;
	pthread_t t[2];
	int i, k;

	pthread_barrier_init(&start, NULL, 2);
	for (i = 0; i < 2; i++) {
		w[i].h = h;
		w[i].start = &start;
		if (pthread_create(&t[i], NULL, work, &w[i]))
			abort();
	}
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (i = 0; i < 2; i++) {
		faults += w[i].other;
		for (k = 0; k < w[i].got; k++)
			if (used[w[i].counters[k]]++) {
				faults++;
				printf("counter %u came twice\n", (unsigned)w[i].counters[k]);
			}
	}
	WANT(LK_OK, lk_dukpt_close(h));
	pthread_barrier_destroy(&start);
	if (w[0].got + w[0].busy + w[1].got + w[1].busy != 8000)
		faults++;
	printf("threads: %d transactions on one handle, %d refusals\n", w[0].got + w[1].got, w[0].busy + w[1].busy);
}

int main(void)
{
	int i;

	if (lk_version() >> 16 != LK_VERSION_MAJOR || strcmp(lk_error_text(-1), "unknown error") || !lk_error_text(LK_OK))
		faults++;
	loading();
	order();
	buffers(tdes_ksn, sizeof tdes_ksn);
	buffers(aes_ksn, sizeof aes_ksn);
	overlaps();
	values();
	from_the_top(NULL);
	threads();
	printf("wrong: %d calls;", calls);
	for (i = 0; i < 128; i++)
		if (seen[i])
			printf(" %d:%d", i, seen[i]);
	printf("; %d faults\n", faults);
	return faults ? 1 : 0;
}
