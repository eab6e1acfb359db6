/* posix.c - the helpers of posix_internal.h. */
#include "os/posix/posix_internal.h"

#include "os/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char *posix_cause(int errnum)
{
    /* The C library begins its texts with a capital letter, ours go on in the
     * middle of a sentence.
     */
    static _Thread_local char text[96];
    const char *known = strerrordesc_np(errnum);

    if (known == NULL) {
        known = "unknown error";
    }
    size_t len = strnlen(known, sizeof(text) - 1);
    memcpy(text, known, len);
    text[len] = '\0';
    bool acronym = len > 1 && text[1] >= 'A' && text[1] <= 'Z';
    if (text[0] >= 'A' && text[0] <= 'Z' && !acronym) {
        text[0] = (char)(text[0] + ('a' - 'A'));
    }
    return text;
}

static _Thread_local int cause_noted;

void posix_note_cause(int errnum)
{
    cause_noted = errnum;
}

const char *mr_file_last_cause(void)
{
    return posix_cause(cause_noted);
}

bool mr_file_last_was_shortage(void)
{
    return cause_noted == EMFILE || cause_noted == ENFILE || cause_noted == ENOMEM;
}

bool posix_drain(int fd)
{
    _Alignas(uint64_t) char scratch[4096]; /* an inotify event needs up to 272 */
    bool any = false;

    for (;;) {
        ssize_t got = read(fd, scratch, sizeof(scratch));
        if (got > 0) {
            any = true;
            if ((size_t)got <= sizeof(uint64_t)) {
                return true; /* an eventfd: one read takes everything */
            }
        } else if (got == 0 || errno != EINTR) {
            return any;
        }
    }
}
