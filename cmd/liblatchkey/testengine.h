/* A secure processor for tests: what a maker writes against lk_engine, with the core of this library for its cryptography. */
#ifndef TESTENGINE_H
#define TESTENGINE_H

#include "latchkey.h"

typedef struct processor processor;

processor *processor_new(void);
void processor_free(processor *p);

/* processor_start is what happens when power comes back: what was in memory is gone, what was saved is there. */
lk_engine processor_start(processor *p);

/* wild_engine breaks every promise: it says that it wrote more than there is room for, describes keys that none has, and gives codes
 * that are none. */
lk_engine wild_engine(void);

/* forgetful_engine says nothing of what it has written in slot 1, and that it is in the wrong order or length in 2 and 3; it describes the keys
 * 1, 3 and 4 of five. Its context is no address, so Go must
 * not hold the table. */
lk_engine *forgetful_engine(void);

/* A sealer for tests: a DUKPT key of the device, of which each call takes the next one. */
typedef struct sealer_device sealer_device;

sealer_device *sealer_new(uint8_t number);
void sealer_free(sealer_device *d);
lk_sealer sealer_of(sealer_device *d);

/* forgetful_sealer says that it has written said - 1 bytes, and nothing for 0. Its table is not for Go to hold, either, and lasts until the next. */
lk_sealer *forgetful_sealer(size_t said);

#endif
