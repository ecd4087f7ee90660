/* What Go sees of latchkey.h, and what it needs to call back. cgo knows no const: exported functions are declared without it,
 * and so that the compiler can hold them to the header, the header is read without it too. */
#ifndef LATCHKEY_API_H
#define LATCHKEY_API_H

#include <stddef.h>
#include <stdint.h>

#define const
#include "latchkey.h"
#undef const

/* Contexts are numbers here: they are the caller's, who may keep a file descriptor in one, and Go takes what is in a pointer for an
 * address. */

static inline int lk_call_save(lk_save save, uintptr_t context, void *state, size_t state_len)
{
	return save((void *)context, (uint8_t *)state, state_len);
}

/* kept_sealer is a table of the caller as Go keeps it. */
typedef struct kept_sealer {
	lk_sealer f; /* without its context */
	uintptr_t context;
} kept_sealer;

static inline void lk_keep_sealer(kept_sealer *to, lk_sealer *from)
{
	to->f = *from;
	to->f.context = NULL;
	to->context = (uintptr_t)from->context;
}

static inline int lk_call_seal(kept_sealer *s, char *label, void *in, size_t in_len, void *out, size_t *n)
{
	return s->f.seal((void *)s->context, label, (uint8_t *)in, in_len, (uint8_t *)out, n);
}

static inline int lk_call_open(kept_sealer *s, char *label, void *in, size_t in_len, void *out, size_t *n)
{
	return s->f.open((void *)s->context, label, (uint8_t *)in, in_len, (uint8_t *)out, n);
}

static inline void lk_call_settled(lk_settled f, uintptr_t context, lk_result *result) { f((void *)context, result); }

/* Engines. A pointer in a structure may not be one of Go, so the structures of specifications are made here. */

/* kept_engine is a table of the caller as Go keeps it. */
typedef struct kept_engine {
	lk_engine f; /* without its context */
	uintptr_t context;
} kept_engine;

static inline void lk_keep_engine(kept_engine *to, lk_engine *from)
{
	to->f = *from;
	to->f.context = NULL;
	to->context = (uintptr_t)from->context;
}

static inline int lk_call_begin(kept_engine *e, uint32_t slot, void *ksn, size_t *n)
{
	return e->f.begin((void *)e->context, slot, (uint8_t *)ksn, n);
}

static inline int lk_call_pin(kept_engine *e, uint32_t slot, uint32_t format, void *pin, size_t pin_len, void *pan, size_t pan_len,
	void *block, size_t *n)
{
	return e->f.encrypt_pin((void *)e->context, slot, format, (uint8_t *)pin, pin_len, (uint8_t *)pan, pan_len, (uint8_t *)block, n);
}

static inline int lk_call_data(kept_engine *e, uint32_t slot, lk_data_spec spec, void *iv, void *plain, size_t plain_len, void *cipher,
	size_t *n)
{
	spec.iv = (uint8_t *)iv;
	return e->f.encrypt_data((void *)e->context, slot, &spec, (uint8_t *)plain, plain_len, (uint8_t *)cipher, n);
}

static inline int lk_call_mac(kept_engine *e, uint32_t slot, lk_mac_spec spec, void *message, size_t message_len, void *mac, size_t *n)
{
	return e->f.mac((void *)e->context, slot, &spec, (uint8_t *)message, message_len, (uint8_t *)mac, n);
}

static inline int lk_call_verify(kept_engine *e, uint32_t slot, lk_mac_spec spec, void *message, size_t message_len, void *mac,
	size_t mac_len)
{
	return e->f.verify((void *)e->context, slot, &spec, (uint8_t *)message, message_len, (uint8_t *)mac, mac_len);
}

static inline void lk_call_end(kept_engine *e, uint32_t slot) { e->f.end((void *)e->context, slot); }

static inline int lk_call_skip(kept_engine *e, uint32_t slot, void *ksn, size_t ksn_len)
{
	return e->f.skip((void *)e->context, slot, (uint8_t *)ksn, ksn_len);
}

static inline int lk_call_stage(kept_engine *e, uint32_t slot, void *ksn, size_t ksn_len, void *key, size_t key_len, uint32_t max_jump)
{
	return e->f.stage((void *)e->context, slot, (uint8_t *)ksn, ksn_len, (uint8_t *)key, key_len, max_jump);
}

static inline int lk_call_replace(kept_engine *e, uint32_t slot) { return e->f.replace((void *)e->context, slot); }

static inline int lk_call_status(kept_engine *e, uint32_t index, lk_slot_status *status)
{
	return e->f.status((void *)e->context, index, status);
}

static inline int lk_call_zeroize(kept_engine *e) { return e->f.zeroize((void *)e->context); }

#endif
