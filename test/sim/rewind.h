/* rewind.h - the process as it was before a run.
 *
 * Its static data and its heap are put back, byte for byte; what libraries keep for themselves
 * is not, so whatever they do only once has to be done before the mark.
 *
 * Thread: one.   Memory: a copy of the static data and of the heap at the mark.
 */
#ifndef MR_TEST_SIM_REWIND_H
#define MR_TEST_SIM_REWIND_H

#include "base/base.h"

bool rewind_can(void); /* false, with AddressSanitizer: the others do nothing */
void rewind_mark(void);
void rewind_back(void);

#endif
