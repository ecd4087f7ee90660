/*
 * vectors computes what its standard input asks for, one case a line, and writes the result in hexadecimal, or the number of the
 * error. Each case loads an initial key, moves to a KSN, makes one transaction there and closes, so that the whole life of a
 * handle stands behind each vector. Bytes are hexadecimal, - is none.
 *
 *   pin KEY KSN FORMAT PIN PAN
 *   mac KEY KSN ALGORITHM WORKING-KEY PADDING LENGTH MESSAGE
 *   verify KEY KSN ALGORITHM WORKING-KEY PADDING LENGTH MESSAGE MAC
 *   data KEY KSN PADDING PLAIN
 *   decrypt KEY KSN PADDING CIPHER
 *   life KEY KSN COUNT: that many transactions, each followed by a restart from what was saved; the last KSN
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

enum { ROOM = 4096 };

struct bytes {
	uint8_t at[ROOM];
	size_t n;
};

/* What the callback has saved. */
static struct bytes saved;

static int save(void *context, const uint8_t *state, size_t n)
{
	struct bytes *to = context;

	if (n > sizeof to->at)
		return 1;
	memcpy(to->at, state, n);
	to->n = n;
	return 0;
}

static void read_hex(const char *text, struct bytes *b)
{
	size_t i;

	b->n = 0;
	if (strcmp(text, "-") == 0)
		return;
	for (i = 0; text[i] && text[i + 1] && b->n < ROOM; i += 2) {
		char pair[3] = {text[i], text[i + 1], 0};
		b->at[b->n++] = (uint8_t)strtoul(pair, NULL, 16);
	}
}

static void answer(int code, const uint8_t *b, size_t n)
{
	size_t i;

	if (code != LK_OK) {
		printf("error %d\n", code);
		return;
	}
	for (i = 0; i < n; i++)
		printf("%02X", b[i]);
	printf(n ? "\n" : "ok\n");
}

static int begin_at(const struct bytes *key, const struct bytes *ksn, lk_handle *h)
{
	uint8_t at[12];
	size_t n = sizeof at;
	int code = lk_dukpt_load(ksn->at, ksn->n, key->at, key->n, 1, save, &saved, h);

	if (code == LK_OK)
		code = lk_dukpt_skip(*h, ksn->at, ksn->n);
	if (code == LK_OK)
		code = lk_dukpt_begin(*h, at, &n);
	if (code == LK_OK && (n != ksn->n || memcmp(at, ksn->at, n) != 0))
		code = LK_INTERNAL;
	return code;
}

/* life has a handle for one transaction only. What is saved is all that goes from one to the next. */
static int life(const struct bytes *key, const struct bytes *ksn, long count, struct bytes *last)
{
	lk_handle h;
	int code = lk_dukpt_load(ksn->at, ksn->n, key->at, key->n, 1, save, &saved, &h);

	while (code == LK_OK && count-- > 0) {
		last->n = sizeof last->at;
		code = lk_dukpt_begin(h, last->at, &last->n);
		if (code == LK_OK)
			code = lk_dukpt_close(h);
		if (code == LK_OK)
			code = lk_dukpt_open(saved.at, saved.n, 1, save, &saved, &h);
	}
	return code == LK_OK ? lk_dukpt_close(h) : code;
}

static lk_data_spec data_spec(size_t ksn_len, uint32_t direction, uint32_t padding)
{
	lk_data_spec s;

	memset(&s, 0, sizeof s);
	s.size = sizeof s;
	s.direction = direction;
	s.profile = ksn_len == 10 ? LK_DATA_ONE_WAY : 0;
	s.key = ksn_len == 10 ? 0 : LK_AES128;
	s.mode = LK_CBC;
	s.padding = padding;
	return s;
}

static int run(char **word, struct bytes *out)
{
	static struct bytes key, ksn, in, tag;
	lk_mac_spec m = {sizeof m, 0, 0, 0, 0, 0};
	lk_handle h = 0;
	int code;

	read_hex(word[1], &key);
	read_hex(word[2], &ksn);
	out->n = sizeof out->at;
	if (strcmp(word[0], "life") == 0)
		return life(&key, &ksn, atol(word[3]), out);
	code = begin_at(&key, &ksn, &h);
	if (code != LK_OK) {
		lk_dukpt_close(h);
		return code;
	}
	if (strcmp(word[0], "pin") == 0) {
		code = lk_dukpt_pin(h, (uint32_t)atoi(word[3]), word[4], strlen(word[4]), word[5], strlen(word[5]), out->at, &out->n);
	} else if (strcmp(word[0], "data") == 0 || strcmp(word[0], "decrypt") == 0) {
		int decrypt = strcmp(word[0], "decrypt") == 0;
		lk_data_spec d = data_spec(ksn.n, decrypt ? LK_RESPONSE : LK_REQUEST, (uint32_t)atoi(word[3]));
		read_hex(word[4], &in);
		code = decrypt ? lk_dukpt_decrypt(h, &d, in.at, in.n, out->at, &out->n) : lk_dukpt_data(h, &d, in.at, in.n, out->at, &out->n);
	} else {
		m.algorithm = (uint32_t)atoi(word[3]);
		m.key = (uint32_t)atoi(word[4]);
		m.padding = (uint32_t)atoi(word[5]);
		m.length = (uint32_t)atoi(word[6]);
		read_hex(word[7], &in);
		if (strcmp(word[0], "mac") == 0) {
			code = lk_dukpt_mac(h, &m, in.at, in.n, out->at, &out->n);
		} else {
			read_hex(word[8], &tag);
			code = lk_dukpt_verify(h, &m, in.at, in.n, tag.at, tag.n);
			out->n = 0;
		}
	}
	lk_dukpt_close(h);
	return code;
}

int main(void)
{
	static char line[4 * ROOM];
	static struct bytes out;

	while (fgets(line, sizeof line, stdin)) {
		char *word[9], *w;
		int n = 0;
		for (w = strtok(line, " \n"); w && n < 9; w = strtok(NULL, " \n"))
			word[n++] = w;
		while (n < 9)
			word[n++] = "-";
		n = run(word, &out);
		answer(n, out.at, out.n);
		fflush(stdout);
	}
	return 0;
}
