//go:build testengine && !core

#include <stdlib.h>
#include <string.h>

#include "testengine.h"

enum { KSN = 12, TAG = 16, ROOM = 1 << 15 };

/* What is sealed is the KSN, the text behind a byte, in CBC, and a MAC over all of it and the label. */
struct sealer_device {
	uint8_t key[16], ksn[KSN], state[1024];
	size_t state_len;
};

static int save(void *context, const uint8_t *state, size_t n)
{
	sealer_device *d = context;

	if (n > sizeof d->state)
		return 1;
	memcpy(d->state, state, n);
	d->state_len = n;
	return 0;
}

static int forget(void *context, const uint8_t *state, size_t n)
{
	(void)context, (void)state, (void)n;
	return 0;
}

static const lk_data_spec data = {sizeof data, LK_BOTH, 0, LK_AES128, LK_CBC, LK_DATA_PADDING_PKCS7, NULL, 0};
static const lk_mac_spec mac = {sizeof mac, LK_MAC_CMAC, LK_BOTH, LK_AES128, 0, TAG};

/* covered writes what the MAC covers: the label with its 0, and what was sealed. */
static size_t covered(uint8_t *b, const char *label, const uint8_t *sealed, size_t n)
{
	size_t name = strlen(label) + 1;

	memcpy(b, label, name);
	memcpy(b + name, sealed, n);
	return name + n;
}

static int seal(void *context, const char *label, const uint8_t *plain, size_t plain_len, uint8_t *sealed, size_t *n)
{
	sealer_device *d = context;
	uint8_t *text = malloc(2 * ROOM), *all = text + ROOM;
	size_t ksn_len = KSN, len = *n - KSN - TAG, tag = TAG, end;
	lk_handle h = 0;
	int code = LK_LENGTH;

	if (!text || plain_len + 256 > ROOM)
		goto out;
	code = d->state_len ? lk_dukpt_open(d->state, d->state_len, 1, save, d, &h)
			    : lk_dukpt_load(d->ksn, KSN, d->key, sizeof d->key, 1, save, d, &h);
	if (code == LK_OK)
		code = lk_dukpt_begin(h, sealed, &ksn_len);
	text[0] = 1;
	memcpy(text + 1, plain, plain_len);
	if (code == LK_OK)
		code = lk_dukpt_data(h, &data, text, plain_len + 1, sealed + KSN, &len);
	if (code == LK_OK) {
		end = covered(all, label, sealed, KSN + len);
		code = lk_dukpt_mac(h, &mac, all, end, sealed + KSN + len, &tag);
	}
	*n = KSN + len + tag;
out:
	lk_dukpt_close(h);
	if (text)
		memset(text, 0, ROOM);
	free(text);
	return code;
}

static int unseal(void *context, const char *label, const uint8_t *sealed, size_t sealed_len, uint8_t *plain, size_t *n)
{
	sealer_device *d = context;
	uint8_t ksn[KSN], *text = malloc(2 * ROOM), *all = text + ROOM;
	size_t ksn_len = KSN, len = ROOM, end;
	lk_handle h = 0;
	int code = LK_STATE;

	if (!text || sealed_len < KSN + TAG || sealed_len + 256 > ROOM)
		goto out;
	code = lk_dukpt_load(sealed, KSN, d->key, sizeof d->key, 1, forget, NULL, &h);
	if (code == LK_OK)
		code = lk_dukpt_skip(h, sealed, KSN);
	if (code == LK_OK)
		code = lk_dukpt_begin(h, ksn, &ksn_len);
	end = covered(all, label, sealed, sealed_len - TAG);
	if (code == LK_OK)
		code = lk_dukpt_verify(h, &mac, all, end, sealed + sealed_len - TAG, TAG);
	if (code == LK_OK)
		code = lk_dukpt_decrypt(h, &data, sealed + KSN, sealed_len - KSN - TAG, text, &len);
	if (code == LK_OK && (len == 0 || len - 1 > *n))
		code = LK_STATE;
	if (code == LK_OK) {
		memcpy(plain, text + 1, len - 1);
		*n = len - 1;
	}
out:
	lk_dukpt_close(h);
	if (text)
		memset(text, 0, ROOM);
	free(text);
	return code == LK_OK ? 0 : LK_STATE;
}

sealer_device *sealer_new(uint8_t number)
{
	sealer_device *d = calloc(1, sizeof *d);

	if (d) {
		memset(d->key, 0x5a, sizeof d->key);
		d->key[0] = number;
		d->ksn[0] = 0x12;
	}
	return d;
}

void sealer_free(sealer_device *d) { free(d); }

lk_sealer sealer_of(sealer_device *d)
{
	lk_sealer s = {sizeof s, "in C", d, seal, unseal};

	return s;
}

static int wild_out(void *context, uint32_t slot, uint8_t *b, size_t *n)
{
	(void)context, (void)b;
	*n = slot == 1 ? (size_t)-1 : slot == 2 ? 0 : 5; /* too much, nothing, and what is no KSN */
	return LK_OK;
}

static int wild_pin(void *context, uint32_t slot, uint32_t format, const uint8_t *pin, size_t pin_len, const uint8_t *pan,
	size_t pan_len, uint8_t *block, size_t *n)
{
	(void)format, (void)pin, (void)pin_len, (void)pan, (void)pan_len;
	return wild_out(context, slot, block, n);
}

static int wild_data(void *context, uint32_t slot, const lk_data_spec *spec, const uint8_t *plain, size_t plain_len, uint8_t *cipher,
	size_t *n)
{
	(void)spec, (void)plain, (void)plain_len;
	return wild_out(context, slot, cipher, n);
}

static int wild_mac(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len, uint8_t *out,
	size_t *n)
{
	(void)spec, (void)message, (void)message_len;
	return wild_out(context, slot, out, n);
}

static int wild_verify(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len,
	const uint8_t *tag, size_t tag_len)
{
	(void)context, (void)slot, (void)spec, (void)message, (void)message_len, (void)tag, (void)tag_len;
	return -7;
}

static void wild_end(void *context, uint32_t slot) { (void)context, (void)slot; }

static int wild_skip(void *context, uint32_t slot, const uint8_t *ksn, size_t n)
{
	(void)context, (void)slot, (void)ksn, (void)n;
	return 12345;
}

static int wild_stage(void *context, uint32_t slot, const uint8_t *ksn, size_t ksn_len, const uint8_t *key, size_t key_len,
	uint32_t max_jump)
{
	(void)context, (void)slot, (void)ksn, (void)ksn_len, (void)key, (void)key_len, (void)max_jump;
	return LK_UNANSWERED; /* a code of the library, but none of an engine */
}

static int wild_replace(void *context, uint32_t slot)
{
	(void)context, (void)slot;
	return LK_INTERNAL;
}

static int wild_status(void *context, uint32_t index, lk_slot_status *s)
{
	(void)context;
	memset(s->key_id, 0xff, sizeof s->key_id);
	memset(s->next, 0xff, sizeof s->next);
	s->slot = index ? 1 : 300;
	s->ksn_len = index == 1 ? 4000000000u : 12;
	return LK_OK; /* and never ends */
}

static int wild_zeroize(void *context)
{
	(void)context;
	return 1;
}

lk_engine wild_engine(void)
{
	lk_engine e = {sizeof e, NULL, wild_out, wild_pin, wild_data, wild_mac, wild_verify, wild_end, wild_skip, wild_stage, wild_replace,
		wild_status, wild_zeroize};

	return e;
}

/* A sealer and an engine that forget something. */

static int forget_seal(void *context, const char *label, const uint8_t *plain, size_t plain_len, uint8_t *sealed, size_t *n)
{
	(void)label, (void)plain, (void)plain_len;
	memset(sealed, 0x5a, *n);
	if (context)
		*n = (size_t)context - 1;
	return 0;
}

static int forget_open(void *context, const char *label, const uint8_t *sealed, size_t sealed_len, uint8_t *plain, size_t *n)
{
	return forget_seal(context, label, sealed, sealed_len, plain, n);
}

lk_sealer *forgetful_sealer(size_t said)
{
	static lk_sealer s = {sizeof s, "forgetful", NULL, forget_seal, forget_open};

	s.context = (void *)said;
	return &s;
}

static int forget_out(void *context, uint32_t slot, uint8_t *b, size_t *n)
{
	(void)context;
	memset(b, 0x12, *n);
	return slot == 1 ? LK_OK : slot == 2 ? LK_ORDER : LK_LENGTH;
}

static int forget_pin(void *context, uint32_t slot, uint32_t format, const uint8_t *pin, size_t pin_len, const uint8_t *pan,
	size_t pan_len, uint8_t *block, size_t *n)
{
	(void)format, (void)pin, (void)pin_len, (void)pan, (void)pan_len;
	return forget_out(context, slot, block, n);
}

static int forget_data(void *context, uint32_t slot, const lk_data_spec *spec, const uint8_t *plain, size_t plain_len, uint8_t *cipher,
	size_t *n)
{
	(void)spec, (void)plain, (void)plain_len;
	return forget_out(context, slot, cipher, n);
}

static int forget_mac(void *context, uint32_t slot, const lk_mac_spec *spec, const uint8_t *message, size_t message_len, uint8_t *out,
	size_t *n)
{
	(void)spec, (void)message, (void)message_len;
	return forget_out(context, slot, out, n);
}

/* forget_status cannot describe two of five keys. */
static int forget_status(void *context, uint32_t index, lk_slot_status *s)
{
	(void)context;
	if (index == 0)
		return LK_SLOT;
	if (index == 2)
		return -1;
	if (index > 4)
		return LK_END;
	memset(s->key_id, 0x12, 8);
	s->used_up = 1;
	s->slot = index;
	s->ksn_len = 12;
	return LK_OK;
}

lk_engine *forgetful_engine(void)
{
	static lk_engine e;

	e = wild_engine();
	e.context = (void *)7; /* which is no address */
	e.begin = forget_out;
	e.encrypt_pin = forget_pin;
	e.encrypt_data = forget_data;
	e.mac = forget_mac;
	e.status = forget_status;
	return &e;
}
