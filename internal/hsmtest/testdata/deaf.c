// A PKCS#11 module in front of SoftHSM that does not answer when it is told not to. REAL is the path of the module behind it. As long as
// there is a file DIR/hang-NAME, calls of NAME do not return; each call of NAME is a line in DIR/calls before it is made.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;

// The function list of PKCS#11 2.40 after its version, by place.
enum { INITIALIZE = 0, FINALIZE = 1, SLOT_LIST = 4, TOKEN_INFO = 6, OPEN_SESSION = 12, CLOSE_SESSION = 13, LOGIN = 18, GENERATE_KEY = 58, FUNCTIONS = 68 };
typedef struct { unsigned char version[2]; void *call[FUNCTIONS]; } functions;

static functions real, ours;

static void called(const char *name) {
	char line[64], file[1024];
	int n = snprintf(line, sizeof line, "%s\n", name);
	int fd = open(DIR "/calls", O_WRONLY | O_APPEND);
	if (fd < 0 && errno == ENOENT) return; // the test is over, and its folder goes
	if (fd < 0 || write(fd, line, n) != n) _exit(99); // what is not written down would be taken for what was not called
	close(fd);
	snprintf(file, sizeof file, "%s/hang-%s", DIR, name);
	while (access(file, F_OK) == 0) usleep(10000);
}

static ulong initialize(void *args) {
	called("C_Initialize");
	return ((ulong (*)(void *))real.call[INITIALIZE])(args);
}

static ulong finalize(void *reserved) {
	called("C_Finalize");
	return ((ulong (*)(void *))real.call[FINALIZE])(reserved);
}

static ulong slotList(unsigned char present, ulong *list, ulong *count) {
	called("C_GetSlotList");
	return ((ulong (*)(unsigned char, ulong *, ulong *))real.call[SLOT_LIST])(present, list, count);
}

static ulong tokenInfo(ulong slot, void *info) {
	called("C_GetTokenInfo");
	return ((ulong (*)(ulong, void *))real.call[TOKEN_INFO])(slot, info);
}

static ulong openSession(ulong slot, ulong flags, void *application, void *notify, ulong *session) {
	called("C_OpenSession");
	return ((ulong (*)(ulong, ulong, void *, void *, ulong *))real.call[OPEN_SESSION])(slot, flags, application, notify, session);
}

static ulong closeSession(ulong session) {
	called("C_CloseSession");
	return ((ulong (*)(ulong))real.call[CLOSE_SESSION])(session);
}

static ulong login(ulong session, ulong user, unsigned char *pin, ulong length) {
	called("C_Login");
	return ((ulong (*)(ulong, ulong, unsigned char *, ulong))real.call[LOGIN])(session, user, pin, length);
}

static ulong generateKey(ulong session, void *mechanism, void *attributes, ulong count, ulong *key) {
	called("C_GenerateKey");
	return ((ulong (*)(ulong, void *, void *, ulong, ulong *))real.call[GENERATE_KEY])(session, mechanism, attributes, count, key);
}

__attribute__((constructor)) static void loaded(void) { called("dlopen"); }

ulong C_GetFunctionList(functions **list) {
	functions *behind;
	if (ours.call[INITIALIZE] == NULL) {
		void *module = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
		ulong (*ask)(functions **) = module ? (ulong (*)(functions **))dlsym(module, "C_GetFunctionList") : NULL;
		if (ask == NULL || ask(&behind) != 0) return 5;
		memcpy(&real, behind, sizeof real);
		ours = real;
		ours.call[INITIALIZE] = initialize;
		ours.call[FINALIZE] = finalize;
		ours.call[SLOT_LIST] = slotList;
		ours.call[TOKEN_INFO] = tokenInfo;
		ours.call[OPEN_SESSION] = openSession;
		ours.call[CLOSE_SESSION] = closeSession;
		ours.call[LOGIN] = login;
		ours.call[GENERATE_KEY] = generateKey;
	}
	*list = &ours;
	return 0;
}
