//go:build !core

/* The same as entry.c for the terminal. */
#include "_cgo_export.h"

#define OUT(p, n) ((n) && *(n) ? (p) : NULL)

int lk_terminal_detail(lk_handle terminal, char *text, size_t *n) { return lk_go_terminal_detail(terminal, OUT(text, n), n); }

int lk_terminal_body(lk_handle terminal, uint8_t *body, size_t *n) { return lk_go_terminal_body(terminal, OUT(body, n), n); }

int lk_terminal_drain(lk_handle terminal, uint32_t timeout_ms, lk_settled settled, void *context)
{
	return lk_go_terminal_drain(terminal, timeout_ms, settled, (uintptr_t)context);
}

int lk_terminal_run(lk_handle terminal, lk_settled settled, void *context)
{
	return lk_go_terminal_run(terminal, settled, (uintptr_t)context);
}

int lk_connection_read(lk_handle connection, uint32_t timeout_ms, uint8_t *data, size_t *n)
{
	return lk_go_connection_read(connection, timeout_ms, OUT(data, n), n);
}

int lk_connection_write(lk_handle connection, uint32_t timeout_ms, uint8_t *data, size_t data_len)
{
	return lk_go_connection_write(connection, timeout_ms, data_len ? data : NULL, data_len);
}
