/* process.h - this process: signals, limits, identity, random bytes, terminals.
 *
 * Thread: start-up and main thread unless said otherwise.   Memory: none.
 */
#ifndef MR_OS_PROCESS_H
#define MR_OS_PROCESS_H

#include "base/base.h"
#include "os/thread.h"

enum { MR_SIGNAL_TERMINATE = 1, MR_SIGNAL_RELOAD = 2, MR_SIGNAL_DUMP = 4 };

/* Route SIGTERM/SIGINT, SIGHUP, SIGUSR1 to `wake` (NULL: they are noted, and ring nobody); SIGPIPE
 * is ignored.  mr_signals_take() returns and clears what arrived (MR_SIGNAL_* bits).
 */
void mr_signals_route(struct mr_wake *wake);
unsigned mr_signals_take(void);

/* Ignore SIGPIPE and route nothing, for commands: a reader of our output that
 * went away is then an error of write() and not the end of the process.
 */
void mr_signals_ignore_pipe(void);

/* A page of a mapped file that cannot be read (a bad sector, a file that was cut short) ends the
 * process by SIGBUS.  If the file's path ends in `name`, from now on that is said first, on stderr,
 * with `advice`, and the process ends with `code`.  Both texts stay the caller's, for good.
 */
void mr_map_faults_tell(const char *name, const char *advice, int code);

/* Cryptographically random bytes from the kernel. */
void mr_os_random(void *into, size_t len);

/* Raise the soft descriptor limit to the hard one; returns what we have. */
uint64_t mr_descriptors_raise(void);

uint64_t mr_memory_total(void);    /* bytes of this machine (or cgroup) */
uint64_t mr_memory_resident(void); /* bytes of this process now */
unsigned mr_cpu_count(void);       /* that this process may use */
uint64_t mr_descriptors_open(void);
bool mr_is_terminal(int fd);

/* Ask on the terminal of stdin, without echo, or read a line of stdin if that is none.
 * False: the end of the input, or more than `size` - 1 bytes.
 */
bool mr_secret_ask(const char *prompt, char *into, size_t size) MR_MUST_USE;
int64_t mr_process_id(void);

/* Watch a folder for changed files (inotify); for `tap`, which follows another
 * process's journal.  Wait on the returned fd
 * with mr_watch_wait().
 */
enum mr_err mr_watch_open(const char *path, int *fd, struct mr_error *why) MR_MUST_USE;
bool mr_watch_wait(int fd, int64_t timeout_ns);
void mr_watch_close(int fd);

#endif
