/*
 * c-terminal is a payment terminal in C: it enrols at the registration authority, signs in and sells. It is what firmware does with
 * liblatchkey, without a screen.
 *
 *   cc -std=c99 main.c $(pkg-config --cflags --libs latchkey) -o c-terminal
 *
 *   c-terminal enrol FOLDER URL TRUST-URL TENANT TERMINAL   reads the ticket from standard input
 *   c-terminal sale FOLDER CENTS [offline]                  reads the card number and the PIN from standard input, a line each
 *   c-terminal drain FOLDER                                 settles what waits
 *   c-terminal run FOLDER SECONDS                           settles and renews in the background meanwhile
 *   c-terminal talk FOLDER https://HOST:PORT                sends standard input over the terminal's TLS, and prints what comes back
 *   c-terminal status FOLDER
 *   c-terminal doctor FOLDER
 *
 * Secrets come from standard input only. Without a sealer the library keeps keys in the folder: for tests.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "latchkey.h"

#define TIMEOUT 60000u /* milliseconds */

/* explain says what went wrong, and gives the exit code. */
static int explain(lk_handle terminal, const char *step, int code)
{
	char detail[1024];
	size_t n = sizeof detail;

	if (code == LK_OK)
		return 0;
	if (lk_terminal_detail(terminal, detail, &n) != LK_OK)
		detail[0] = 0;
	fprintf(stderr, "%s: %s (%d)\n  %s\n", step, lk_error_text(code), code, detail);
	return 1;
}

/* read_line reads a secret. The caller wipes it. */
static size_t read_line(char *line, size_t room)
{
	if (!fgets(line, (int)room, stdin))
		return 0;
	line[strcspn(line, "\r\n")] = 0;
	return strlen(line);
}

/* wipe is not optimised away. */
static void wipe(void *p, size_t n)
{
	volatile unsigned char *b = p;

	while (n--)
		*b++ = 0;
}

static const char *name_of(uint32_t outcome)
{
	switch (outcome) {
	case 0: return "kept";
	case LK_APPROVED: return "APPROVED";
	case LK_DECLINED: return "DECLINED";
	case LK_HELD: return "HELD";
	case LK_REVERSED: return "REVERSED";
	case LK_SIGNED_IN: return "SIGNED-IN";
	case LK_ROLLED_BACK: return "ROLLED-BACK";
	case LK_KSN_REPLAYED: return "refused: KsnReplayed";
	case LK_KSN_SPENT: return "refused: KsnSpent";
	case LK_KSN_TOO_OLD: return "refused: KsnTooOld";
	case LK_KSN_FENCED: return "refused: KsnFenced";
	case LK_KSN_OUT_OF_WINDOW: return "refused: KsnOutOfWindow";
	case LK_PIN_BLOCK_INVALID: return "refused: PinBlockInvalid";
	case LK_MESSAGE_REFUSED: return "refused: Refused";
	case LK_OTHER: return "not approved";
	}
	return "not approved";
}

static int show_status(lk_handle terminal)
{
	lk_status s;
	lk_queue q;
	lk_slot_status slot;
	uint32_t i;
	int code;

	memset(&s, 0, sizeof s);
	s.size = sizeof s;
	if ((code = lk_terminal_status(terminal, &s)) != LK_OK)
		return explain(terminal, "status", code);
	memset(&q, 0, sizeof q);
	q.size = sizeof q;
	if ((code = lk_terminal_queue(terminal, &q)) != LK_OK)
		return explain(terminal, "queue", code);
	printf("terminal    %s/%s\nstarts      %lu\nunanswered  %u\n", s.tenant, s.terminal, (unsigned long)s.starts, (unsigned)q.count);
	for (i = 0; i < s.slots; i++) {
		memset(&slot, 0, sizeof slot);
		slot.size = sizeof slot;
		if ((code = lk_terminal_slot(terminal, i, &slot)) != LK_OK)
			return explain(terminal, "slot", code);
		printf("slot %u      %u keys left%s\n", (unsigned)(slot.slot & ~LK_STAGED), (unsigned)slot.remaining,
			slot.slot & LK_STAGED ? ", waits" : slot.confirmed ? "" : ", not confirmed");
	}
	return 0;
}

static int enrol(lk_handle terminal, char **arg)
{
	lk_enrolment e;
	lk_result r;
	char ticket[128];
	int code;

	memset(&e, 0, sizeof e);
	e.size = sizeof e;
	e.environment = LK_TEST;
	e.url = arg[0];
	e.trust_url = arg[1];
	e.tenant = arg[2];
	e.terminal = arg[3];
	e.ticket_len = read_line(ticket, sizeof ticket);
	e.ticket = e.ticket_len ? ticket : NULL; /* none: go on with an enrolment that was interrupted */
	code = lk_terminal_enrol(terminal, &e, TIMEOUT);
	wipe(ticket, sizeof ticket);
	if (code == LK_OK)
		code = lk_terminal_open(terminal);
	if (code != LK_OK)
		return explain(terminal, "enrol", code);
	memset(&r, 0, sizeof r);
	r.size = sizeof r;
	if ((code = lk_terminal_sign_in(terminal, TIMEOUT, &r)) != LK_OK)
		return explain(terminal, "sign-in", code);
	printf("sign-in     %s\n", name_of(r.outcome));
	return show_status(terminal);
}

static void show_result(const lk_result *r)
{
	uint32_t i;

	printf("%-11s %s\nsequence    %lu\nKSN         ", r->reversal ? "reversal" : "sale", name_of(r->outcome), (unsigned long)r->sequence);
	for (i = 0; i < r->ksn_len; i++)
		printf("%02X", r->ksn[i]);
	printf("\n");
}

static void settled(void *context, const lk_result *r)
{
	(void)context;
	show_result(r);
}

static int sale(lk_handle terminal, const char *cents, int offline)
{
	lk_sale s;
	lk_result r;
	char pan[32], pin[16];
	int code;

	memset(&s, 0, sizeof s);
	s.size = sizeof s;
	s.amount = strtol(cents, NULL, 10);
	s.exponent = 2;
	strcpy(s.currency, "EUR");
	s.pan_len = read_line(pan, sizeof pan);
	s.pan = pan;
	s.pin_len = read_line(pin, sizeof pin);
	s.pin = s.pin_len ? pin : NULL;
	memset(&r, 0, sizeof r);
	r.size = sizeof r;
	code = offline ? lk_terminal_sale_offline(terminal, &s, &r) : lk_terminal_sale(terminal, &s, TIMEOUT, &r);
	wipe(pan, sizeof pan);
	wipe(pin, sizeof pin);
	if (code != LK_OK)
		return explain(terminal, "sale", code);
	show_result(&r);
	return r.outcome == LK_APPROVED || offline ? 0 : 4;
}

static int doctor(lk_handle terminal)
{
	uint32_t broken;
	size_t n = 0;
	char *text;
	int code = lk_terminal_doctor(terminal, TIMEOUT, &broken);

	if (code != LK_OK)
		return explain(terminal, "doctor", code);
	lk_terminal_detail(terminal, NULL, &n);
	text = malloc(n);
	if (text && lk_terminal_detail(terminal, text, &n) == LK_OK)
		printf("%s", text);
	free(text);
	return broken ? 6 : 0;
}

static void *upkeep(void *terminal) { return (void *)(size_t)lk_terminal_run(*(lk_handle *)terminal, settled, NULL); }

/* run closes the terminal, which is how lk_terminal_run ends. */
static int run(lk_handle terminal, const char *seconds)
{
	pthread_t thread;
	void *code;

	if (pthread_create(&thread, NULL, upkeep, &terminal) != 0)
		return 1;
	sleep((unsigned)strtoul(seconds, NULL, 10));
	if (lk_terminal_close(terminal) != LK_OK || pthread_join(thread, &code) != 0)
		return 1;
	printf("run ended: %s\n", lk_error_text((int)(size_t)code));
	return (int)(size_t)code == LK_CLOSED ? 0 : 1;
}

/* talk is for another protocol than that of messages. */
static int talk(lk_handle terminal, const char *endpoint)
{
	lk_handle c;
	unsigned char data[4096];
	size_t n;
	int code = lk_terminal_dial(terminal, endpoint, TIMEOUT, &c);

	if (code != LK_OK)
		return explain(terminal, "dial", code);
	while (code == LK_OK && (n = fread(data, 1, sizeof data, stdin)) > 0)
		code = lk_connection_write(c, TIMEOUT, data, n);
	while (code == LK_OK) {
		n = sizeof data;
		if ((code = lk_connection_read(c, TIMEOUT, data, &n)) == LK_OK)
			fwrite(data, 1, n, stdout);
	}
	if (code != LK_END)
		fprintf(stderr, "talk: %s (%d)\n", lk_error_text(code), code);
	return lk_connection_close(c) == LK_OK && code == LK_END ? 0 : 1;
}

int main(int argc, char **argv)
{
	lk_options o;
	lk_handle terminal;
	int code, status = 2;

	if (argc < 3) {
		fprintf(stderr, "usage: c-terminal enrol|sale|drain|run|talk|status|doctor FOLDER ...\n");
		return 2;
	}
	mkdir(argv[2], 0700); /* and on a real device: make its name durable */
	memset(&o, 0, sizeof o);
	o.size = sizeof o;
	o.folder = argv[2];
	code = lk_terminal_new(&o, &terminal);
	if (code != LK_OK) {
		fprintf(stderr, "%s\n", lk_error_text(code));
		return 1;
	}
	if (strcmp(argv[1], "enrol") == 0 && argc == 7) {
		status = enrol(terminal, argv + 3);
	} else if (strcmp(argv[1], "doctor") == 0) {
		status = doctor(terminal);
	} else if ((code = lk_terminal_open(terminal)) != LK_OK) {
		status = explain(terminal, "open", code);
	} else if (strcmp(argv[1], "sale") == 0 && argc >= 4) {
		status = sale(terminal, argv[3], argc > 4);
	} else if (strcmp(argv[1], "drain") == 0) {
		code = lk_terminal_drain(terminal, TIMEOUT, settled, NULL);
		status = explain(terminal, "drain", code);
	} else if (strcmp(argv[1], "run") == 0 && argc == 4) {
		return run(terminal, argv[3]);
	} else if (strcmp(argv[1], "talk") == 0 && argc == 4) {
		status = talk(terminal, argv[3]);
	} else if (strcmp(argv[1], "status") == 0) {
		status = show_status(terminal);
	}
	if (lk_terminal_close(terminal) != LK_OK && status == 0)
		status = 1;
	return status;
}
