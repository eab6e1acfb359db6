/* failpoint.c - preloaded into a program: at a chosen call it ends at once, or the call fails.
 *
 *     LD_PRELOAD=failpoint.so FAILPOINT='CALL SUBJECT WHEN HIT ACTION' FAILPOINT_SAID=file program
 *
 *     CALL     a shell pattern of: pwritev, pwrite, write, writev, fdatasync, fsync, rename,
 *              unlink, mkdir, open, ftruncate, send, sendmsg, recvmsg, malloc (calloc, realloc)
 *     SUBJECT  a shell pattern.  Of a call on a file: its path (rename: the old one), behind
 *              "dsync:" when it was opened with O_DSYNC.  Of send: mqtt:<first byte, hex>.  Of
 *              sendmsg: kafka:<API key>.  Of recvmsg: kafka:<API key of the last request>, once
 *              for each request.  Of malloc: the file of the program or library that calls.
 *     WHEN     before or after the call
 *     HIT      the n-th such call of the process; with a + behind it from the n-th on
 *     ACTION   kill, lie (it is not done, and succeeds), note (it is only counted), short (pwritev
 *              writes a part), delay:<ms>, or the number of an error
 *
 * A point that was reached appends a line to FAILPOINT_SAID before anything else happens; "note"
 * one at each hit.  The product has no code for this.  Thread: any; the count is shared by all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DELAY "delay:"

enum { SUBJECT_MAX = 512, FD_MAX = 1024, KAFKA_NONE = -1, KAFKA_KEY_MAX = 100 };

enum verdict { GO_ON, FAIL, LIE, SHORT };

static struct {
    bool armed;
    char call[16], subject[SUBJECT_MAX], when[8], hit[16], action[16];
    long wanted;
    bool onwards;
    _Atomic long hits;
    _Atomic int asked[FD_MAX]; /* API key of the last Kafka request + 1; 0: answered */
} point;

__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("FAILPOINT");

    if (text == NULL || strcmp(program_invocation_short_name, "millrace") != 0) {
        return;
    }
    if (sscanf(text, "%15s %511s %7s %15s %15s", point.call, point.subject, point.when, point.hit,
               point.action) != 5) {
        fprintf(stderr, "FAILPOINT is not 'CALL SUBJECT WHEN HIT ACTION': %s\n", text);
        _exit(64);
    }
    point.wanted = strtol(point.hit, NULL, 10);
    point.onwards = strchr(point.hit, '+') != NULL;
    point.armed = true;
}

static void say(void)
{
    const char *path = getenv("FAILPOINT_SAID");
    int fd = path == NULL ? -1 : openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    if (fd >= 0) {
        dprintf(fd, "hit\n");
        close(fd);
    }
}

static void delay(long ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&left, &left) != 0 && errno == EINTR) { /* sleep: the fault itself */
    }
}

/* What happens to this call, now in front of it or behind it. */
static enum verdict meet(const char *when, const char *subject)
{
    long hit = 0;

    if (strcmp(when, point.when) != 0 || fnmatch(point.subject, subject, 0) != 0) {
        return GO_ON;
    }
    hit = atomic_fetch_add(&point.hits, 1) + 1;
    if (hit < point.wanted || (hit > point.wanted && !point.onwards)) {
        return GO_ON;
    }
    if (hit == point.wanted || strcmp(point.action, "note") == 0) {
        say();
    }
    if (strcmp(point.action, "note") == 0) {
        return GO_ON;
    }
    if (strcmp(point.action, "kill") == 0) {
        kill(getpid(), SIGKILL);
    }
    if (strcmp(point.action, "lie") == 0) {
        return LIE;
    }
    if (strcmp(point.action, "short") == 0) {
        return SHORT;
    }
    if (strncmp(point.action, DELAY, sizeof(DELAY) - 1) == 0) {
        delay(strtol(point.action + sizeof(DELAY) - 1, NULL, 10));
        return GO_ON;
    }
    errno = (int)strtol(point.action, NULL, 10);
    return FAIL;
}

static bool concerns(const char *call)
{
    return point.armed && fnmatch(point.call, call, 0) == 0;
}

static void path_of(int fd, char subject[SUBJECT_MAX])
{
    char link[64];
    int flags = fcntl(fd, F_GETFL);
    size_t at = 0;
    ssize_t len = 0;

    if (flags >= 0 && (flags & O_DSYNC) != 0) {
        at = (size_t)snprintf(subject, SUBJECT_MAX, "dsync:");
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, subject + at, SUBJECT_MAX - 1 - at);
    subject[at + (len > 0 ? (size_t)len : 0)] = '\0';
}

/* A call on `subject` whose success is `good`, its failure -1. */
#define AROUND(type, name, good, call)                          \
    do {                                                        \
        enum verdict verdict = meet("before", subject);         \
        type done = -1;                                         \
        int error = errno;                                      \
        if (verdict != GO_ON) {                                 \
            return verdict == FAIL ? (type) - 1 : (type)(good); \
        }                                                       \
        done = (call);                                          \
        error = errno;                                          \
        verdict = meet("after", subject);                       \
        if (verdict == FAIL) {                                  \
            return (type) - 1;                                  \
        }                                                       \
        errno = error;                                          \
        return done;                                            \
    } while (0)

/* The function behind this one. */
#define REAL(name)                                         \
    static __typeof__(&name) real;                         \
    if (real == NULL) {                                    \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    }

#define ON_FD(type, name, fd, good, call) \
    REAL(name)                            \
    char subject[SUBJECT_MAX];            \
    if (!concerns(#name)) {               \
        return (call);                    \
    }                                     \
    path_of(fd, subject);                 \
    AROUND(type, name, good, call)

#define ON_PATH(name, path, call) \
    REAL(name)                    \
    const char *subject = (path); \
    if (!concerns(#name)) {       \
        return (call);            \
    }                             \
    AROUND(int, name, 0, call)

static size_t sum(const struct iovec *parts, int count)
{
    size_t bytes = 0;

    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    return bytes;
}

/* ---- files ---- */

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    struct iovec first = count > 0 ? parts[0] : (struct iovec){NULL, 0};

    first.iov_len = first.iov_len / 2 + 1;
    if (concerns("pwritev") && count > 0 && strcmp(point.action, "short") == 0) {
        ON_FD(ssize_t, pwritev, fd, real(fd, &first, 1, at), real(fd, parts, count, at));
    }
    ON_FD(ssize_t, pwritev, fd, sum(parts, count), real(fd, parts, count, at));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ON_FD(ssize_t, writev, fd, sum(parts, count), real(fd, parts, count));
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    ON_FD(ssize_t, pwrite, fd, len, real(fd, bytes, len, at));
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    ON_FD(ssize_t, write, fd, len, real(fd, bytes, len));
}

int fdatasync(int fd)
{
    ON_FD(int, fdatasync, fd, 0, real(fd));
}

int fsync(int fd)
{
    ON_FD(int, fsync, fd, 0, real(fd));
}

int ftruncate(int fd, off_t len)
{
    ON_FD(int, ftruncate, fd, 0, real(fd, len));
}

int rename(const char *from, const char *to)
{
    ON_PATH(rename, from, real(from, to));
}

int unlink(const char *path)
{
    ON_PATH(unlink, path, real(path));
}

int mkdir(const char *path, mode_t mode)
{
    ON_PATH(mkdir, path, real(path, mode));
}

int open(const char *path, int flags, ...)
{
    va_list more;
    mode_t mode = 0;

    va_start(more, flags);
    if ((flags & O_CREAT) != 0) {
        mode = va_arg(more, mode_t);
    }
    va_end(more);
    ON_PATH(open, path, real(path, flags, mode));
}

/* ---- sockets ---- */

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    REAL(send)
    char subject[SUBJECT_MAX];

    if (!concerns("send") || len == 0) {
        return real(fd, bytes, len, flags);
    }
    snprintf(subject, sizeof(subject), "mqtt:%02x", *(const unsigned char *)bytes);
    AROUND(ssize_t, send, len, real(fd, bytes, len, flags));
}

static bool is_kafka_thread(void)
{
    char name[16] = "";

    return prctl(PR_GET_NAME, name) == 0 && strncmp(name, "rdk:", 4) == 0;
}

/* The API key of the request that begins with these bytes, or KAFKA_NONE. */
static int kafka_key(const struct msghdr *message)
{
    const unsigned char *head = NULL;

    if (message->msg_iovlen == 0 || message->msg_iov[0].iov_len < 8 || !is_kafka_thread()) {
        return KAFKA_NONE;
    }
    head = message->msg_iov[0].iov_base;
    return head[4] == 0 && head[5] < KAFKA_KEY_MAX && head[6] == 0 ? head[5] : KAFKA_NONE;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg)
    char subject[SUBJECT_MAX];
    int key = point.armed ? kafka_key(message) : KAFKA_NONE;

    if (key != KAFKA_NONE && fd < FD_MAX) {
        atomic_store(&point.asked[fd], key + 1);
    }
    if (key == KAFKA_NONE || !concerns("sendmsg")) {
        return real(fd, message, flags);
    }
    snprintf(subject, sizeof(subject), "kafka:%d", key);
    AROUND(ssize_t, sendmsg, sum(message->msg_iov, (int)message->msg_iovlen),
           real(fd, message, flags));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    REAL(recvmsg)
    char subject[SUBJECT_MAX];
    int key = concerns("recvmsg") && fd < FD_MAX ? atomic_exchange(&point.asked[fd], 0) : 0;

    if (key == 0) {
        return real(fd, message, flags);
    }
    snprintf(subject, sizeof(subject), "kafka:%d", key - 1);
    AROUND(ssize_t, recvmsg, 0, real(fd, message, flags));
}

/* ---- memory ---- */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

/* Whether the caller at `from` gets no memory. */
static bool refused(const void *from)
{
    static _Thread_local bool within;
    Dl_info info;
    bool is_refused = false;

    if (within || !concerns("malloc")) {
        return false;
    }
    within = true;
    if (dladdr(from, &info) != 0 && info.dli_fname != NULL) {
        is_refused = meet("before", info.dli_fname) == FAIL;
    }
    within = false;
    return is_refused;
}

void *malloc(size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(memory, size);
}
