/*
 * wronglink makes wrong calls of the terminal, in three folders of its own, under AddressSanitizer. It ends with 1 when a call gives
 * another code than it should. Nothing is listening anywhere.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

/* A ticket that somebody might have typed; nobody gave it out. */
static const char real[] = "4xq7 m2b9 ktdo 2 - 0123-4567-89AB-CDEF-GHJK-MNPQ-RS";

static int faults, calls;

#define WANT(code, call) want(code, call, #call, __LINE__)

static void want(int expected, int got, const char *call, int line)
{
	calls++;
	if (got == expected)
		return;
	faults++;
	printf("line %d: %s gives %d (%s), want %d\n", line, call, got, lk_error_text(got), expected);
}

/* A sealer that calls with its own handle, which would wait for itself for ever, and then fails. */
struct sealer {
	lk_handle terminal;
	int calls, again, detail, body;
};

static int seal(void *context, const char *label, const uint8_t *plain, size_t n, uint8_t *sealed, size_t *room)
{
	struct sealer *s = context;
	uint32_t broken;
	char text[1024];
	size_t n_text = sizeof text, n_body = 0;

	(void)label;
	s->calls++;
	s->again = lk_terminal_doctor(s->terminal, 1, &broken);
	if (s->again == LK_BUSY)
		s->again = lk_terminal_close(s->terminal);
	s->detail = lk_terminal_detail(s->terminal, text, &n_text);
	s->body = lk_terminal_body(s->terminal, NULL, &n_body);
	memcpy(sealed, plain, *room < n ? *room : n);
	*room = n;
	return 99;
}

static int unseal(void *context, const char *label, const uint8_t *sealed, size_t n, uint8_t *plain, size_t *room)
{
	(void)context, (void)label, (void)sealed, (void)n, (void)plain;
	*room = (size_t)1 << 40; /* more than there is */
	return 0;
}

static lk_handle fresh(const char *folder)
{
	lk_options o;
	lk_handle h = 0;

	memset(&o, 0, sizeof o);
	o.size = sizeof o;
	o.folder = folder;
	WANT(LK_OK, lk_terminal_new(&o, &h));
	return h;
}

static void options(const char *folder)
{
	lk_options o;
	lk_sealer s;
	lk_engine e;
	lk_handle h = 0;

	memset(&o, 0, sizeof o);
	memset(&s, 0, sizeof s);
	memset(&e, 0, sizeof e);
	WANT(LK_ARGUMENT, lk_terminal_new(NULL, &h));
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	o.size = sizeof o;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	o.folder = folder;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, NULL));
	o.reserve = 33;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	o.reserve = 0, o.sealer = &s;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	s.size = sizeof s, s.name = "insecure-file", s.seal = seal, s.open = unseal;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	s.name = "mine", s.open = NULL;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	o.sealer = NULL, o.engine = &e;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
	e.size = sizeof e;
	WANT(LK_ARGUMENT, lk_terminal_new(&o, &h));
}

/* The number of a terminal is none of a connection, whatever it is asked for. */
static void connections(lk_handle h)
{
	uint8_t data[8];
	size_t n = sizeof data;

	WANT(LK_HANDLE, lk_connection_read(h, 1, data, &n));
	WANT(LK_ARGUMENT, lk_connection_read(h, 1, data, NULL));
	WANT(LK_OVERLAP, lk_connection_read(h, 1, (uint8_t *)&n, &n));
	n = 0;
	WANT(LK_HANDLE, lk_connection_read(h, 1, (uint8_t *)(size_t)7, &n));
	WANT(LK_HANDLE, lk_connection_write(h, 1, data, sizeof data));
	WANT(LK_HANDLE, lk_connection_write(h, 1, (uint8_t *)(size_t)7, 0));
	WANT(LK_ARGUMENT, lk_connection_write(h, 1, NULL, 1));
	WANT(LK_LENGTH, lk_connection_write(h, 1, data, LK_MAX_INPUT + 1));
	WANT(LK_HANDLE, lk_connection_close(h));
	WANT(LK_HANDLE, lk_connection_close(0));
}

/* Everything that needs an open terminal, on a handle that is none or not open. */
static void each(int code, lk_handle h)
{
	lk_result r;
	lk_sale s;
	lk_queue q;
	lk_status st;
	lk_slot_status slot;
	lk_handle c;
	int64_t amount;
	uint32_t exponent;
	char currency[4];

	memset(&r, 0, sizeof r);
	memset(&s, 0, sizeof s);
	memset(&q, 0, sizeof q);
	memset(&st, 0, sizeof st);
	memset(&slot, 0, sizeof slot);
	WANT(LK_ARGUMENT, lk_terminal_sign_in(h, 1, NULL));
	WANT(LK_ARGUMENT, lk_terminal_sign_in(h, 1, &r));
	WANT(LK_ARGUMENT, lk_terminal_sale(h, NULL, 1, &r));
	WANT(LK_ARGUMENT, lk_terminal_sale(h, &s, 1, &r));
	WANT(LK_ARGUMENT, lk_terminal_queue(h, NULL));
	WANT(LK_ARGUMENT, lk_terminal_queue(h, &q));
	WANT(LK_ARGUMENT, lk_terminal_status(h, &st));
	WANT(LK_ARGUMENT, lk_terminal_slot(h, 0, &slot));
	WANT(LK_ARGUMENT, lk_terminal_queue_amount(h, 0, NULL, &exponent, currency));
	WANT(LK_OVERLAP, lk_terminal_queue_amount(h, 0, &amount, (uint32_t *)&amount + 1, currency));
	WANT(LK_OVERLAP, lk_terminal_queue_amount(h, 0, &amount, &exponent, (char *)&amount));
	WANT(LK_OVERLAP, lk_terminal_queue_amount(h, 0, &amount, &exponent, (char *)&exponent));
	r.size = sizeof r, s.size = sizeof s, q.size = sizeof q, st.size = sizeof st, slot.size = sizeof slot;
	s.pan = (const char *)&r, s.pan_len = 8;
	WANT(LK_OVERLAP, lk_terminal_sale(h, &s, 1, &r));
	s.pan = (const char *)(size_t)1, s.pan_len = 0; /* nothing is there */
	s.track = s.pin = s.pan, s.body = (const uint8_t *)s.pan;
	WANT(code, lk_terminal_sign_in(h, 1, &r));
	WANT(code, lk_terminal_sale(h, &s, 1, &r));
	WANT(code, lk_terminal_sale_offline(h, &s, &r));
	WANT(code, lk_terminal_drain(h, 1, NULL, NULL));
	WANT(code, lk_terminal_queue(h, &q));
	WANT(code, lk_terminal_queue_amount(h, 0, &amount, &exponent, currency));
	WANT(code, lk_terminal_status(h, &st));
	WANT(code, lk_terminal_slot(h, 0, &slot));
	WANT(code, lk_terminal_renew(h, 1));
	WANT(code, lk_terminal_rekey(h, 1));
	WANT(code, lk_terminal_network_changed(h));
	WANT(code, lk_terminal_run(h, NULL, (void *)(size_t)7));
	WANT(LK_ARGUMENT, lk_terminal_dial(h, NULL, 1, &c));
	WANT(LK_ARGUMENT, lk_terminal_dial(h, "", 1, &c));
	WANT(LK_ARGUMENT, lk_terminal_dial(h, "https://localhost:1", 1, NULL));
	WANT(code, lk_terminal_dial(h, "https://localhost:1", 1, &c));
	connections(h);
	WANT(code, lk_terminal_zeroize(h));
}

static void enrolments(lk_handle h)
{
	lk_enrolment e;
	char *ticket = malloc(3);

	memcpy(ticket, "abc", 3); /* no 0 behind it */
	memset(&e, 0, sizeof e);
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, NULL, 1));
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.size = sizeof e;
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.url = "https://localhost:1", e.trust_url = "http://localhost:1", e.tenant = "acme", e.terminal = "T-1";
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.tenant = "ACME";
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.environment = LK_TEST, e.curve = 255;
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.curve = LK_P256, e.ticket_len = 5;
	WANT(LK_ARGUMENT, lk_terminal_enrol(h, &e, 1));
	e.ticket = ticket, e.ticket_len = 3;
	WANT(LK_TICKET, lk_terminal_enrol(h, &e, 1));
	e.ticket = NULL, e.ticket_len = 0;
	WANT(LK_TICKET, lk_terminal_enrol(h, &e, 1));
	e.environment = LK_PRODUCTION;
	WANT(LK_INSECURE, lk_terminal_enrol(h, &e, 1));
	e.environment = LK_TEST, e.ticket = real, e.ticket_len = strlen(real);
	WANT(LK_UNREACHABLE, lk_terminal_enrol(h, &e, 5000));
	e.ticket = NULL, e.ticket_len = 0; /* it was taken: the enrolment goes on without it */
	WANT(LK_UNREACHABLE, lk_terminal_enrol(h, &e, 5000));
	WANT(LK_UNREACHABLE, lk_terminal_enrol(h, &e, 1));
	free(ticket);
}

/* detail asks for every length below the needed one. */
static void detail(lk_handle h)
{
	size_t need = 0, n, room;

	WANT(LK_ARGUMENT, lk_terminal_detail(h, NULL, NULL));
	WANT(LK_SHORT_BUFFER, lk_terminal_detail(h, NULL, &need));
	for (room = 1; room <= need; room++) {
		char *text = malloc(room);
		n = room;
		WANT(room < need ? LK_SHORT_BUFFER : LK_OK, lk_terminal_detail(h, text, &n));
		if (n != need || (room == need && strlen(text) + 1 != need))
			faults++;
		free(text);
	}
}

static void callbacks(const char *folder)
{
	struct sealer context = {0, 0, 0, 1, 1};
	lk_sealer s = {sizeof s, "mine", &context, seal, unseal};
	lk_options o;
	lk_enrolment e;
	lk_handle h = 0;

	memset(&o, 0, sizeof o);
	o.size = sizeof o, o.folder = folder, o.sealer = &s;
	WANT(LK_OK, lk_terminal_new(&o, &h));
	memset(&s, 0, sizeof s); /* it was copied */
	context.terminal = h;
	memset(&e, 0, sizeof e);
	e.size = sizeof e, e.environment = LK_TEST, e.url = "https://localhost:1", e.trust_url = "http://localhost:1";
	e.tenant = "ACME", e.terminal = "T-1";
	e.ticket = real, e.ticket_len = strlen(real);
	WANT(LK_ENGINE, lk_terminal_enrol(h, &e, 1000));
	if (!context.calls || context.again != LK_BUSY) {
		faults++;
		printf("a callback that calls with its own handle gets %d after %d calls\n", context.again, context.calls);
	}
	WANT(LK_OK, context.detail);
	WANT(LK_OK, context.body);
	WANT(LK_OK, lk_terminal_close(h));
}

/* A sealer whose context is a number. It has Go move its stack while that is in its hands, and says nothing of what it writes. */
static const uint8_t key[16] = {0x6a, 0xc2, 0x92, 0xfa, 0xa1, 0x31, 0x5b, 0x4d, 0x85, 0x8a, 0xb3, 0xa3, 0xd7, 0xd5, 0x93, 0x3a};
static const uint8_t ksn[12] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0, 0, 0, 0};

static int deeper(void *context, const uint8_t *state, size_t n)
{
	size_t left = (size_t)context;
	uint8_t next[12];
	lk_handle h = 0;

	(void)state;
	if (left == 0)
		return 0;
	WANT(LK_OK, lk_dukpt_load(ksn, sizeof ksn, key, sizeof key, 1, deeper, (void *)(left - 1), &h));
	n = sizeof next;
	WANT(LK_OK, lk_dukpt_begin(h, next, &n));
	WANT(LK_OK, lk_dukpt_close(h));
	return 0;
}

static int numbered(void *context, const char *label, const uint8_t *in, size_t in_len, uint8_t *out, size_t *n)
{
	(void)label, (void)in, (void)in_len;
	if ((size_t)context != 7)
		faults++;
	memset(out, 1, *n);
	return deeper((void *)(size_t)60, NULL, 0);
}

static void numbers(const char *folder)
{
	lk_sealer s = {sizeof s, "numbered", (void *)(size_t)7, numbered, numbered};
	lk_options o;
	lk_enrolment e;
	lk_handle h = 0;
	size_t n = 0;

	memset(&o, 0, sizeof o);
	o.size = sizeof o, o.folder = folder, o.sealer = &s;
	WANT(LK_OK, lk_terminal_new(&o, &h));
	memset(&e, 0, sizeof e);
	e.size = sizeof e, e.environment = LK_TEST, e.url = "https://localhost:1", e.trust_url = "http://localhost:1";
	e.tenant = "ACME", e.terminal = "T-1";
	e.ticket = (char *)(size_t)1; /* of no characters, which is none, and not an enrolment that goes on */
	WANT(LK_TICKET, lk_terminal_enrol(h, &e, 1000));
	e.ticket = real, e.ticket_len = strlen(real);
	WANT(LK_ENGINE, lk_terminal_enrol(h, &e, 1000));
	WANT(LK_SHORT_BUFFER, lk_terminal_detail(h, (char *)(size_t)1, &n));
	n = 0;
	WANT(LK_OK, lk_terminal_body(h, (uint8_t *)(size_t)7, &n));
	WANT(LK_ORDER, lk_terminal_drain(h, 1, NULL, (void *)(size_t)7));
	WANT(LK_OK, lk_terminal_close(h));
}

static void *closer(void *context) { return (void *)(size_t)lk_terminal_close(*(lk_handle *)context); }

int main(int argc, char **argv)
{
	lk_handle h;
	pthread_t t[2];
	void *r[2];
	uint32_t broken;
	size_t n = 0;
	int i;

	if (argc != 4 || !lk_has_link())
		return 2;
	options(argv[1]);
	each(LK_HANDLE, 0);
	h = fresh(argv[1]);
	each(LK_ORDER, h);
	enrolments(h);
	detail(h);
	WANT(LK_ARGUMENT, lk_terminal_doctor(h, 1, NULL));
	WANT(LK_NO_TERMINAL, lk_terminal_open(h));
	WANT(LK_OK, lk_terminal_body(h, NULL, &n));
	WANT(LK_HANDLE, lk_dukpt_end(h)); /* of another kind */
	for (i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, closer, &h))
			abort();
	for (i = 0; i < 2; i++)
		pthread_join(t[i], &r[i]);
	WANT(LK_OK + LK_HANDLE, (int)(size_t)r[0] + (int)(size_t)r[1]); /* one of two closes it */
	each(LK_HANDLE, h);
	WANT(LK_HANDLE, lk_terminal_doctor(h, 1, &broken));
	WANT(LK_HANDLE, lk_terminal_open(h));
	WANT(LK_HANDLE, lk_terminal_close(h));
	callbacks(argv[2]);
	numbers(argv[3]);
	printf("wronglink: %d calls; %d faults\n", calls, faults);
	return faults ? 1 : 0;
}
