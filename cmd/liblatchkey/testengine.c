//go:build testengine && !core

#include <stdlib.h>
#include <string.h>

#include "testengine.h"

enum { PLACES = 24, BATCH = 4, JUMPS = 10 };

/* place is one key: what is on the medium of the processor, and what is in its memory. */
struct place {
	/* the medium */
	uint32_t number; /* with LK_STAGED while it waits; 0: free */
	uint8_t state[2048], id[12];
	size_t state_len, id_len;
	uint32_t max_jump;
	uint64_t jumped;
	/* memory */
	lk_handle keys;
	int live;
};

struct processor {
	struct place at[PLACES];
	int zeroized;
};

static int save(void *context, const uint8_t *state, size_t n)
{
	struct place *s = context;

	if (n > sizeof s->state)
		return 1;
	memcpy(s->state, state, n);
	s->state_len = n;
	return 0;
}

static int find(processor *p, uint32_t number, struct place **out)
{
	int i;

	if (p->zeroized)
		return LK_ZEROIZED;
	for (i = 0; i < PLACES; i++)
		if (p->at[i].number == number && number) {
			*out = &p->at[i];
			return LK_OK;
		}
	return LK_SLOT;
}

/* forget clears a key, here and on the medium. */
static void forget(struct place *s)
{
	if (s->keys)
		lk_dukpt_close(s->keys);
	memset(s, 0, sizeof *s);
}

static int begin(void *context, uint32_t slot, uint8_t *ksn, size_t *n)
{
	struct place *s;
	int code = find(context, slot, &s);

	if (code == LK_OK)
		code = lk_dukpt_begin(s->keys, ksn, n);
	if (code == LK_OK)
		s->live = 1;
	return code;
}

static int encrypt_pin(void *context, uint32_t slot, uint32_t format, const uint8_t *pin, size_t pin_len, const uint8_t *pan,
	size_t pan_len, uint8_t *block, size_t *n)
{
	struct place *s;
	int code = find(context, slot, &s);

	if (code != LK_OK)
		return code;
	if (!s->live)
		return LK_ORDER;
	if (!pin)
		return LK_NO_KEYPAD;
	return lk_dukpt_pin(s->keys, format, (const char *)pin, pin_len, (const char *)pan, pan_len, block, n);
}

static int encrypt_data(void *context, uint32_t slot, const lk_data_spec *spec, const uint8_t *plain, size_t plain_len,
	uint8_t *cipher, size_t *n)
{
	struct place *s;
	int code = find(context, slot, &s);

	return code == LK_OK ? lk_dukpt_data(s->keys, spec, plain, plain_len, cipher, n) : code;
}

static int mac(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len, uint8_t *out,
	size_t *n)
{
	struct place *s;
	int code = find(context, slot, &s);

	return code == LK_OK ? lk_dukpt_mac(s->keys, spec, message, message_len, out, n) : code;
}

static int verify(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
	const uint8_t *tag, size_t tag_len)
{
	struct place *s;
	int code = find(context, slot, &s);

	return code == LK_OK ? lk_dukpt_verify(s->keys, spec, message, message_len, tag, tag_len) : code;
}

static void end(void *context, uint32_t slot)
{
	struct place *s;

	if (find(context, slot, &s) != LK_OK)
		return;
	lk_dukpt_end(s->keys);
	s->live = 0;
}

/* ordinals counts the keys from the next one to another: the difference of what would be left. */
static int ordinals(struct place *s, const uint8_t *ksn, size_t n, lk_dukpt_status *now, uint32_t *ahead)
{
	struct place other = *s; /* registers of their own, which save into a copy */
	lk_dukpt_status then;
	lk_handle h;
	int code;

	memset(now, 0, sizeof *now);
	now->size = sizeof *now;
	then = *now;
	if ((code = lk_dukpt_describe(s->keys, now)) != LK_OK)
		return code;
	if ((code = lk_dukpt_open(other.state, other.state_len, 1, save, &other, &h)) != LK_OK)
		return code;
	code = lk_dukpt_skip(h, ksn, n);
	if (code == LK_OK)
		code = lk_dukpt_describe(h, &then);
	lk_dukpt_close(h);
	*ahead = now->remaining - then.remaining;
	return code;
}

static int skip(void *context, uint32_t slot, const uint8_t *ksn, size_t n)
{
	struct place *s;
	lk_dukpt_status now;
	uint32_t ahead = 0;
	uint64_t before;
	int code = find(context, slot, &s);

	if (code != LK_OK)
		return code;
	if (s->live)
		return LK_ORDER;
	if (n != s->id_len || memcmp(ksn, s->id, n == 10 ? 7 : 8) != 0)
		return LK_KSN;
	code = ordinals(s, ksn, n, &now, &ahead);
	if (code == LK_KSN)
		return LK_OK; /* it is one of this key, and not ahead of what was saved */
	if (code != LK_OK)
		return code;
	if (ahead > s->max_jump)
		return LK_JUMP;
	if (s->jumped + ahead > (uint64_t)JUMPS * s->max_jump)
		return LK_JUMP_BUDGET;
	before = s->jumped;
	s->jumped += ahead; /* with the registers: one write of the medium */
	code = lk_dukpt_skip(s->keys, ksn, n);
	if (code != LK_OK)
		s->jumped = before;
	return code;
}

static int stage(void *context, uint32_t slot, const uint8_t *ksn, size_t ksn_len, const uint8_t *key, size_t key_len,
	uint32_t max_jump)
{
	processor *p = context;
	struct place *s, fresh;
	int i, code = find(p, slot | LK_STAGED, &s);

	if (code == LK_ZEROIZED)
		return code;
	if (code == LK_OK && s->live)
		return LK_ORDER;
	if (code != LK_OK) {
		for (i = 0; i < PLACES && p->at[i].number; i++)
			;
		if (i == PLACES)
			return LK_SLOT;
		s = &p->at[i];
	}
	memset(&fresh, 0, sizeof fresh);
	if (ksn_len > sizeof fresh.id)
		return LK_KSN;
	fresh.number = slot | LK_STAGED;
	fresh.max_jump = max_jump;
	fresh.id_len = ksn_len;
	memcpy(fresh.id, ksn, ksn_len);
	forget(s);
	*s = fresh;
	code = lk_dukpt_load(ksn, ksn_len, key, key_len, BATCH, save, s, &s->keys);
	/* The registers become durable at once: skipping to the first key saves them, and uses none. */
	if (code == LK_OK) {
		uint8_t first[12];
		memcpy(first, ksn, ksn_len);
		first[ksn_len - 1] |= 1;
		code = lk_dukpt_skip(s->keys, first, ksn_len);
	}
	if (code != LK_OK)
		forget(s);
	return code;
}

static int replace(void *context, uint32_t slot)
{
	processor *p = context;
	struct place *next, *old;
	int code = find(p, slot | LK_STAGED, &next);

	if (code != LK_OK)
		return code;
	if (next->live)
		return LK_ORDER;
	if (find(p, slot, &old) == LK_OK) {
		if (old->live)
			return LK_ORDER;
		forget(old);
	}
	next->number = slot;
	return LK_OK;
}

/* status goes through the numbers in their order: a staged one is greater than all others. */
static int status(void *context, uint32_t index, lk_slot_status *out)
{
	processor *p = context;
	lk_dukpt_status s;
	uint32_t number;

	for (number = 1; number < 2 * LK_STAGED; number++) {
		struct place *at;
		if (find(p, number, &at) != LK_OK || index-- > 0)
			continue;
		memset(&s, 0, sizeof s);
		s.size = sizeof s;
		if (lk_dukpt_describe(at->keys, &s) != LK_OK)
			return LK_STATE;
		out->slot = number;
		out->ksn_len = (uint32_t)at->id_len;
		memcpy(out->key_id, at->id, at->id_len);
		memcpy(out->next, s.next, sizeof out->next);
		out->used_up = s.next_len == 0;
		out->remaining = s.remaining;
		out->jumped = at->jumped;
		out->jump_limit = (uint64_t)JUMPS * at->max_jump;
		return LK_OK;
	}
	return LK_END;
}

static int zeroize(void *context)
{
	processor *p = context;
	int i;

	for (i = 0; i < PLACES; i++)
		forget(&p->at[i]);
	p->zeroized = 1;
	return LK_OK;
}

processor *processor_new(void) { return calloc(1, sizeof(processor)); }

void processor_free(processor *p)
{
	zeroize(p);
	free(p);
}

lk_engine processor_start(processor *p)
{
	lk_engine e = {sizeof e, p, begin, encrypt_pin, encrypt_data, mac, verify, end, skip, stage, replace, status, zeroize};
	int i;

	for (i = 0; i < PLACES; i++) {
		struct place *s = &p->at[i];
		if (!s->number)
			continue;
		lk_dukpt_close(s->keys); /* the engine before is gone; so are its reserved keys */
		s->keys = 0;
		s->live = 0;
		if (lk_dukpt_open(s->state, s->state_len, BATCH, save, s, &s->keys) != LK_OK)
			s->number = 0;
	}
	return e;
}
