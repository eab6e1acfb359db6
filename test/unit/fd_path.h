/* fd_path.h - the file that a descriptor is of, for a test that stands in for a call on files.
 *
 * Thread: any.   Memory: the caller's.
 */
#ifndef MR_TEST_FD_PATH_H
#define MR_TEST_FD_PATH_H

#include <stdio.h>
#include <unistd.h>

enum { FD_PATH_BYTES = 512 };

/* "" if it has none. */
static inline void fd_path(int fd, char out[FD_PATH_BYTES])
{
    char link[64];

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, out, FD_PATH_BYTES - 1);
    out[len < 0 ? 0 : len] = '\0';
}

#endif
