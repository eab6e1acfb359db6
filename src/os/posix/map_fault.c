/* map_fault.c - a mapped file that cannot be read is named before it ends the process; see
 * process.h.
 *
 * Whoever maps a file in need not say where: the kernel knows, and /proc/self/maps is its word.
 * Everything here may run in a signal handler, of any thread.
 */
#include "os/process.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *name;
    const char *advice;
    int code;
    struct sigaction before;
} map_faults;

/* /proc/self/maps, a line at a time. */
struct maps {
    int fd;
    size_t next;
    size_t len;
    char bytes[1024];
    char line[PATH_MAX + 128];
};

static bool maps_line(struct maps *maps)
{
    size_t used = 0;

    while (used < sizeof(maps->line) - 1) {
        if (maps->next == maps->len) {
            ssize_t got = read(maps->fd, maps->bytes, sizeof(maps->bytes));
            if (got <= 0) {
                return false;
            }
            maps->len = (size_t)got;
            maps->next = 0;
        }
        char c = maps->bytes[maps->next++];
        if (c == '\n') {
            break;
        }
        maps->line[used++] = c;
    }
    maps->line[used] = '\0';
    return true;
}

static uintptr_t hex_take(const char **at)
{
    uintptr_t value = 0;
    char c = **at;

    while ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')) {
        value = value << 4 | (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        *at += 1;
        c = **at;
    }
    return value;
}

/* "7f0c4a600000-7f0c4a800000 r--s 00000000 08:01 1234   /var/lib/millrace/..."; NULL: no such line,
 * or no file.
 */
static const char *path_at(struct maps *maps, uintptr_t address)
{
    while (maps_line(maps)) {
        const char *at = maps->line;
        uintptr_t begin = hex_take(&at);
        at += *at == '-';
        if (begin <= address && address < hex_take(&at)) {
            return strchr(at, '/');
        }
    }
    return NULL;
}

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void map_fault(int number, siginfo_t *info, void *context)
{
    struct maps maps = {.fd = -1};

    (void)context;
    if (info->si_code == BUS_ADRERR) {
        maps.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    }
    const char *path = maps.fd < 0 ? NULL : path_at(&maps, (uintptr_t)info->si_addr);
    if (path != NULL && ends_in(path, map_faults.name)) {
        say("millrace: ");
        say(path);
        say(": cannot be read: the disk fails, or the file was cut short; check the disk and ");
        say(map_faults.advice);
        say("\n");
        _exit(map_faults.code);
    }
    (void)sigaction(SIGBUS, &map_faults.before, NULL);
    (void)raise(number); /* once this has returned */
}

void mr_map_faults_tell(const char *name, const char *advice, int code)
{
    struct sigaction action = {.sa_sigaction = map_fault, .sa_flags = SA_SIGINFO};

    map_faults.name = name;
    map_faults.advice = advice;
    map_faults.code = code;
    (void)sigfillset(&action.sa_mask);
    int failed = sigaction(SIGBUS, &action, &map_faults.before);
    mr_assert(failed == 0);
}
