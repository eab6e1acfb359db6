/* posix_internal.h - what the files of this folder share. */
#ifndef MR_OS_POSIX_POSIX_INTERNAL_H
#define MR_OS_POSIX_POSIX_INTERNAL_H

#include "os/loop.h"

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

/* "unix:/path" -> "/path"; NULL: not an address of the file system. */
const char *posix_unix_path(const char *address);

/* socket_unix.c: see mr_socket_listen(); the peer by the identity that the kernel vouches for. */
enum mr_err posix_unix_listen(const char *address, uint32_t mode, int backlog, int *fd,
                              struct mr_error *why) MR_MUST_USE;
void posix_unix_peer(int fd, struct mr_address *out);

/* ring.c: io_uring, for the sends of a loop.  CONFIG: it is not to be had; `why` says what for. */
enum { POSIX_RING_SENDS = 256 };
struct posix_ring;
enum mr_err posix_ring_open(struct posix_ring **out, struct mr_error *why) MR_MUST_USE;
void posix_ring_close(struct posix_ring *ring); /* NULL: nothing */

/* How many of them, from the first one on, were made: all, or the ring is of no use any more.
 * At most POSIX_RING_SENDS.
 */
size_t posix_ring_send(struct posix_ring *ring, struct mr_send *sends, size_t count) MR_MUST_USE;

/* Empty an eventfd or inotify descriptor; true if there was something. */
bool posix_drain(int fd);

#endif
