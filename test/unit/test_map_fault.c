/* test_map_fault.c
 * links: os base
 *
 * Goal:   a page of a mapped file that is not there ends the process with a sentence that names the
 *         file, and the code that was asked for, if the file is one of those that were named; any
 *         other, and a signal that somebody sends, ends it as ever.
 * Method: a child maps a file of two pages, cuts it to one and reads the second.
 */
#include "os/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CODE = 74 };

static char folder[] = "/tmp/millrace-test-XXXXXX";
static size_t page;

static volatile uint8_t *map_two_pages(const char *path, size_t left)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    mr_assert(fd >= 0 && ftruncate(fd, (off_t)(2 * page)) == 0);
    volatile uint8_t *at = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
    mr_assert(at != MAP_FAILED);
    mr_assert(ftruncate(fd, (off_t)left) == 0 && close(fd) == 0);
    return at;
}

/* In a child: what it says is in `said`. */
static int status_of(void (*child)(const char *path), const char *path, char *said, size_t size)
{
    int ends[2];
    size_t used = 0;
    int status;

    mr_assert(pipe(ends) == 0);
    pid_t pid = fork();
    mr_assert(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        (void)signal(SIGBUS, SIG_DFL); /* a sanitizer's own would be met first */
        mr_map_faults_tell("/rows", "eat well", CODE);
        child(path);
        _exit(0);
    }
    (void)close(ends[1]);
    for (ssize_t got = 1; got > 0 && used < size - 1; used += got > 0 ? (size_t)got : 0) {
        got = read(ends[0], said + used, size - 1 - used);
    }
    said[used] = '\0';
    (void)close(ends[0]);
    mr_assert(waitpid(pid, &status, 0) == pid);
    return status;
}

static void read_what_is_not_there(const char *path)
{
    volatile uint8_t *at = map_two_pages(path, page);

    (void)at[page - 1];
    (void)at[page];
}

static void read_what_is_there(const char *path)
{
    (void)map_two_pages(path, 2 * page)[page];
}

static void be_told(const char *path)
{
    (void)map_two_pages(path, page);
    (void)kill(getpid(), SIGBUS);
}

int main(void)
{
    char said[1024];
    char wanted[1024];
    char rows[64];
    char others[64];

    page = (size_t)sysconf(_SC_PAGESIZE);
    mr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(rows, sizeof(rows), "%s/rows", folder);
    (void)snprintf(others, sizeof(others), "%s/rows-of-others", folder);
    (void)snprintf(wanted, sizeof(wanted),
                   "millrace: %s: cannot be read: the disk fails, or the file was cut short; check "
                   "the disk and eat well\n",
                   rows);
    int status = status_of(read_what_is_not_there, rows, said, sizeof(said));
    mr_assert(WIFEXITED(status) && WEXITSTATUS(status) == CODE && strcmp(said, wanted) == 0);
    status = status_of(read_what_is_there, rows, said, sizeof(said));
    mr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0 && said[0] == '\0');
    status = status_of(read_what_is_not_there, others, said, sizeof(said));
    mr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS && said[0] == '\0');
    status = status_of(be_told, rows, said, sizeof(said));
    mr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS && said[0] == '\0');
    mr_assert(unlink(rows) == 0 && unlink(others) == 0 && rmdir(folder) == 0);
    return 0;
}
