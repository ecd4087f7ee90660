/* The functions of latchkey.h that take a context or memory of a length, before Go sees them. Go takes what is in a pointer for an
 * address, and ends the process when it moves a stack and finds one that cannot be: a context is a number to it, and the address
 * of no memory, which is anything at all in some languages, is NULL. */
#include "_cgo_export.h"

/* IN is an input, OUT an output. */
#define IN(p, n) ((n) ? (p) : NULL)
#define OUT(p, n) ((n) && *(n) ? (p) : NULL)

int lk_dukpt_load(uint8_t *ksn, size_t ksn_len, uint8_t *key, size_t key_len, uint32_t batch, lk_save save, void *context,
	lk_handle *handle)
{
	return lk_go_dukpt_load(IN(ksn, ksn_len), ksn_len, IN(key, key_len), key_len, batch, save, (uintptr_t)context, handle);
}

int lk_dukpt_open(uint8_t *state, size_t state_len, uint32_t batch, lk_save save, void *context, lk_handle *handle)
{
	return lk_go_dukpt_open(IN(state, state_len), state_len, batch, save, (uintptr_t)context, handle);
}

int lk_dukpt_begin(lk_handle handle, uint8_t *ksn, size_t *ksn_len) { return lk_go_dukpt_begin(handle, OUT(ksn, ksn_len), ksn_len); }

int lk_dukpt_pin(lk_handle handle, uint32_t format, char *pin, size_t pin_len, char *pan, size_t pan_len, uint8_t *block,
	size_t *block_len)
{
	return lk_go_dukpt_pin(handle, format, IN(pin, pin_len), pin_len, IN(pan, pan_len), pan_len, OUT(block, block_len), block_len);
}

int lk_dukpt_data(lk_handle handle, lk_data_spec *spec, uint8_t *plain, size_t plain_len, uint8_t *cipher, size_t *cipher_len)
{
	return lk_go_dukpt_data(handle, spec, IN(plain, plain_len), plain_len, OUT(cipher, cipher_len), cipher_len);
}

int lk_dukpt_mac(lk_handle handle, lk_mac_spec *spec, uint8_t *message, size_t message_len, uint8_t *mac, size_t *mac_len)
{
	return lk_go_dukpt_mac(handle, spec, IN(message, message_len), message_len, OUT(mac, mac_len), mac_len);
}

int lk_dukpt_verify(lk_handle handle, lk_mac_spec *spec, uint8_t *message, size_t message_len, uint8_t *mac, size_t mac_len)
{
	return lk_go_dukpt_verify(handle, spec, IN(message, message_len), message_len, IN(mac, mac_len), mac_len);
}

int lk_dukpt_decrypt(lk_handle handle, lk_data_spec *spec, uint8_t *cipher, size_t cipher_len, uint8_t *plain, size_t *plain_len)
{
	return lk_go_dukpt_decrypt(handle, spec, IN(cipher, cipher_len), cipher_len, OUT(plain, plain_len), plain_len);
}

int lk_dukpt_skip(lk_handle handle, uint8_t *ksn, size_t ksn_len) { return lk_go_dukpt_skip(handle, IN(ksn, ksn_len), ksn_len); }
