/* posix_internal.h - what the files of this folder share. */
#ifndef MR_OS_POSIX_POSIX_INTERNAL_H
#define MR_OS_POSIX_POSIX_INTERNAL_H

#include "base/base.h"

#include <time.h>

/* The cause of a failed call, as a person reads it ("address already in use").
 * Borrowed; lives until this thread's next call.
 */
const char *posix_cause(int errnum);

/* Remember why a call of file.h failed, for mr_file_last_cause(). */
void posix_note_cause(int errnum);

/* A time-out in nanoseconds (>= 0) as the kernel wants it. */
static inline struct timespec posix_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

/* Empty an eventfd or inotify descriptor; true if there was something. */
bool posix_drain(int fd);

#endif
