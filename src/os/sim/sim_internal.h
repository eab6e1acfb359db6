/* sim_internal.h - what the parts of the simulated world share.
 *
 *     sim.c         the seed, the time, faults, the crash
 *     sim_inode.c   the content of files: what is seen, what the medium has
 *     sim_names.c   folders and names, certain only after a sync
 *     sim_file.c    file.h on top of the two
 *     sim_net.c     loop.h: streams in memory
 *     sim_thread.c  thread.h: stacks that take turns
 *     sim_process.c clock.h, process.h
 */
#ifndef MR_OS_SIM_SIM_INTERNAL_H
#define MR_OS_SIM_SIM_INTERNAL_H

#include "base/rng.h"
#include "os/sim.h"

enum { SIM_SECTOR = 512, SIM_PATH_MAX = 256 };

/* ---- sim.c ---- */

enum sim_kind {
    SIM_CLOSED,
    SIM_FILE,      /* the object is a sim_inode, held and shown by the handle */
    SIM_FILE_READ, /* the same, opened for reading only */
    SIM_LOCK,      /* the same, of a folder's lock file */
    SIM_DIR,       /* its path, which is its folder's for as long as there is one */
    SIM_LISTENER,
    SIM_STREAM,
    SIM_WAKE,
};

/* Descriptors are never used twice, so a stale one is always noticed. */
int sim_handle_open(enum sim_kind kind, void *object);
void *sim_handle_get(int fd, enum sim_kind kind); /* asserts that it is open and of this kind */
enum sim_kind sim_handle_kind(int fd);            /* SIM_CLOSED if it is not open */
void sim_handle_close(int fd);

/* What happened, for the hash that compares two runs. */
enum sim_trace {
    SIM_TRACE_TURN = 1, /* the thread's number */
    SIM_TRACE_CALL,     /* enum mr_sim_call */
    SIM_TRACE_WRITE,    /* CRC of the bytes, and where */
    SIM_TRACE_SEND,     /* CRC of the bytes */
    SIM_TRACE_CRASH,
};
void sim_trace(enum sim_trace what, uint64_t value);

/* As mr_alloc() and mr_realloc(), of memory that no crash takes. */
void *sim_alloc(size_t size);
void *sim_realloc(void *memory, size_t size);

struct mr_rng *sim_rng(void);
bool sim_coin(void);
int64_t sim_now_ns(void);
int64_t sim_wall_us(void);

/* Count a call and say what is to happen in it. */
enum mr_sim_fault sim_fault_of(enum mr_sim_call call);

/* Remember what mr_file_last_cause() tells; returns `err`. */
enum mr_err sim_note_cause(enum mr_err err);

/* No descriptor is left: `why` and the cause say so. */
bool sim_descriptors_ran_out(const char *path, struct mr_error *why);

/* The sync that is asked for is a lie: say that it is done and do nothing. */
bool sim_sync_lies(void);

/* The machine stops; control goes to mr_sim_run(), or mr_sim_turn(). */
_Noreturn void sim_crash_here(void);

/* ---- sim_inode.c ---- */

struct sim_inode;

struct sim_inode *sim_inode_new(void); /* one reference, not visible */
void sim_inode_hold(struct sim_inode *inode);
void sim_inode_drop(struct sim_inode *inode); /* frees with the last reference */

/* Seen names and open handles: while there are any, its sectors occupy the disk. */
void sim_inode_show(struct sim_inode *inode);
void sim_inode_hide(struct sim_inode *inode);
unsigned sim_inode_shown(const struct sim_inode *inode);

/* Returns how many bytes fitted on the disk.  `from` NULL writes zeroes. */
uint64_t sim_inode_write(struct sim_inode *inode, const uint8_t *from, uint64_t len, uint64_t pos);
size_t sim_inode_read(const struct sim_inode *inode, uint8_t *into, size_t len, uint64_t pos);
uint64_t sim_inode_bytes(const struct sim_inode *inode);
void sim_inode_resize(struct sim_inode *inode, uint64_t bytes);
void sim_inode_sync(struct sim_inode *inode);
void sim_inode_sync_failed(struct sim_inode *inode);

/* Each dirty sector survives with probability keep_of_4 / 4. */
void sim_inode_crash(struct sim_inode *inode, unsigned keep_of_4);
void sim_inode_damage(struct sim_inode *inode, uint64_t pos, uint8_t xor_with);

void sim_disk_set_limit(uint64_t bytes);
uint64_t sim_disk_free_bytes(void);

/* ---- sim_names.c ---- */

void sim_names_stop(void);
void sim_names_crash(unsigned keep_of_4);

/* The file of that name as the program sees it, borrowed; NULL: none. */
struct sim_inode *sim_name_find(const char *path);
bool sim_dir_exists(const char *path);
bool sim_dir_of_exists(const char *path);                        /* the folder it would be in */
void sim_name_create(const char *path, struct sim_inode *inode); /* not there before */

/* ---- sim_thread.c ---- */

struct mr_loop;
struct mr_wake;

bool sim_in_thread(void); /* false: the driver runs */

/* The running thread waits so long, or gives up its turn; nothing for the driver. */
void sim_thread_pause(int64_t ns);
void sim_thread_wait_loop(const struct mr_loop *loop, const struct mr_wake *wake,
                          int64_t timeout_ns);
_Noreturn void sim_thread_crash(void);

bool sim_threads_forget(void); /* true: there were some */
void sim_threads_stop(void);

/* ---- sim_net.c ---- */

/* Streams and watches are gone, but for the ends of other machines; `loops` too, else
 * they may still be closed.
 */
void sim_net_crash(bool loops);
bool sim_loop_is_ready(const struct mr_loop *loop);
int64_t sim_net_next_ns(void); /* when more can be read; INT64_MAX: nothing is on its way */
void sim_net_stop(void);

#endif
