//go:build valgrind && linux

#include "textflag.h"

// func request(code, arg1, arg2, arg3, arg4, arg5 uintptr) uintptr
//
// Four rotations of DI that leave it as it was, then an exchange of BX with itself: nothing to a processor, to Valgrind a
// request whose words AX points to. The answer comes in DX (valgrind/valgrind.h, amd64-linux).
TEXT ·request(SB), NOSPLIT, $0-56
	LEAQ code+0(FP), AX
	XORL DX, DX
	ROLQ $3, DI
	ROLQ $13, DI
	ROLQ $61, DI
	ROLQ $51, DI
	XCHGQ BX, BX
	MOVQ DX, ret+48(FP)
	RET
