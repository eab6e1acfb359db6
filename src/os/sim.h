/* sim.h - the fault-injecting twin of this folder.
 *
 * Tests link os_sim instead of os.  Same headers, other world: one thread, time
 * that moves only when told, files whose unsynced pages may vanish, streams
 * whose bytes are late.  Everything random comes from one seed.
 *
 *     mr_sim_start(seed)
 *        ... run code, inject faults ...
 *     mr_sim_crash()            power cut: unsynced sectors kept, lost or torn
 *        ... recover, check ...
 *     mr_sim_stop()
 *
 * MODEL OF A FILE.  Two images: what the program sees and what the medium has.
 * A write changes the first.  sync copies the second from the first.  A crash
 * keeps, for every 512-byte sector that differs, the old or the new content by
 * the seed's choice (so writes tear, and later ones may survive earlier ones).
 * A created, renamed or removed name is certain only after mr_dir_sync(); each
 * such operation is atomic, but a crash may keep a later one and lose an earlier
 * one on another name.  A folder is certain when mr_dir_create() returns.
 * A failed sync makes the dirty pages clean without having written all of them:
 * a later sync that succeeds says nothing about them, even if reads still show
 * them.  Space is occupied by sectors written, not by holes.
 *
 * THREADS.  Those that are started have a stack each and take turns: the driver,
 * who has called mr_sim_start(), lets one run by mr_sim_turn() until it waits, and
 * the seed chooses which.  So whole programs run, with every interleaving of their
 * waits and their calls to the disk.  Nothing blocks the driver itself: on its own
 * stack mr_wake_wait() and mr_loop_wait() report what is ready and return.  Time moves
 * when the driver says so; for a thread that looks at the clock, by 200 ns.
 *
 * Thread: one.   Memory: heap, returned by stop; what threads had allocated is lost
 * with them in a crash.   Time: mr_sim_advance().
 */
#ifndef MR_OS_SIM_H
#define MR_OS_SIM_H

#include "base/base.h"

/* Faults are counted per kind of call: the `nth` call from now (1 = next)
 * behaves so, `count` times in a row (0 = from then on).
 */
enum mr_sim_call {
    MR_SIM_WRITE,
    MR_SIM_SYNC,
    MR_SIM_READ,
    MR_SIM_CREATE, /* open with CREATE */
    MR_SIM_FILL,   /* mr_file_fill_zero */
    MR_SIM_RENAME,
    MR_SIM_REMOVE,
    MR_SIM_DIR_SYNC,
    MR_SIM_CALLS,
    MR_SIM_ANY = MR_SIM_CALLS, /* mr_sim_inject(), mr_sim_calls(): all of them together */
};

enum mr_sim_fault {
    MR_SIM_FAULT_NONE,
    MR_SIM_FAULT_FULL,  /* ENOSPC; nothing or a part was written */
    MR_SIM_FAULT_IO,    /* EIO; a part may have been written; a failed sync
                           drops the dirty pages, as Linux does */
    MR_SIM_FAULT_CRASH, /* the machine stops in the middle of the call:
                           control returns to mr_sim_run() */
};

void mr_sim_start(uint64_t seed);
void mr_sim_stop(void);

void mr_sim_inject(enum mr_sim_call call, uint64_t nth, uint64_t count, enum mr_sim_fault fault);
void mr_sim_inject_clear(void);
uint64_t mr_sim_calls(enum mr_sim_call call); /* made so far, to choose `nth` */

/* While it is on, the disk does what it is told: no fault, no lie, no other thread's turn, and
 * the calls are not counted.  For a model that keeps its own books on this disk.
 */
void mr_sim_spare(bool on);

/* Does the gateway run, on a thread of its own, and outside of this folder?  What it allocates then
 * is lost in a crash.  What a model allocates between mr_sim_own(true) and (false) is not, whoever
 * has called it.
 */
bool mr_sim_is_gateway(void);
void mr_sim_own(bool on);

/* Run `step(arg)` until it returns (true) or a MR_SIM_FAULT_CRASH hits (false:
 * mr_sim_crash() has been done; the stack of `step` is abandoned, so step must
 * own nothing outside the sim).  CRASH faults need this around them, and are
 * cleared by a crash; other faults stay.
 */
bool mr_sim_run(void (*step)(void *arg), void *arg);

/* Let one thread run until it waits.  IDLE: none can, before mr_sim_next_ns().  CRASHED: a
 * MR_SIM_FAULT_CRASH hit, mr_sim_crash() has been done.  DIED: it has called mr_sim_die(),
 * mr_sim_kill() has been done.
 */
enum mr_sim_turn { MR_SIM_IDLE, MR_SIM_RAN, MR_SIM_CRASHED, MR_SIM_DIED };
enum mr_sim_turn mr_sim_turn(void);
_Noreturn void mr_sim_die(void); /* by a thread: the process ends here */

/* When, by the clock, a thread's wait is over or bytes arrive; INT64_MAX: never. */
int64_t mr_sim_next_ns(void);

/* Threads meet at the disk: each of its calls gives up the turn in `percent` of 100 cases,
 * and a sync takes between nothing and `sync_ns_max`.
 */
void mr_sim_disk_pace(unsigned percent, int64_t sync_ns_max);

/* In `per_mille` of 1,000 cases a sync does nothing and says that it did: a device that
 * lies, to see whether anybody notices.
 */
void mr_sim_sync_lie(unsigned per_mille);

/* A hash of all that happened so far: every turn, call, byte written and sent. */
uint64_t mr_sim_trace_hash(void);

/* The process dies now (kill -9): its threads, handles and streams are gone, what it has
 * written is still seen, and not yet on the medium.
 */
void mr_sim_kill(void);

/* Power cut now: decide the fate of everything unsynced, close all handles.
 * Closing one of them again afterwards is harmless, any other use is a bug.
 */
void mr_sim_crash(void);

void mr_sim_advance(int64_t ns);
void mr_sim_wall_jump(int64_t us);
void mr_sim_disk_limit(uint64_t bytes); /* ENOSPC beyond; 0 = none */
void mr_sim_descriptors(bool left);     /* false: whatever opens a file finds none (EMFILE) */

/* Bytes on the medium (and as seen), for tests that flip or cut them; `pos` must
 * be inside the file.  MR_ERR_REJECT: no such file.
 */
enum mr_err mr_sim_file_damage(const char *path, uint64_t pos, uint8_t xor_with) MR_MUST_USE;
enum mr_err mr_sim_file_cut(const char *path, uint64_t bytes) MR_MUST_USE;

/* Streams: the next bytes written to `fd` reach its peer after `delay_ns`, in
 * pieces of at most `piece_max` bytes (0: any), with a "nothing now" between two
 * pieces; break loses what is on its way and makes both ends see GONE.
 */
void mr_sim_stream_shape(int fd, int64_t delay_ns, size_t piece_max);
void mr_sim_stream_break(int fd);

/* As shape, for what the peer of `fd` writes. */
void mr_sim_stream_shape_peer(int fd, int64_t delay_ns, size_t piece_max);

/* This end belongs to another machine: when ours dies, it still gets what is on its way,
 * then the end.
 */
void mr_sim_stream_outlives(int fd);

#endif
