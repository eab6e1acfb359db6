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
 * A created, renamed or removed name is certain only after mr_dir_sync().
 *
 * Thread: one.   Memory: heap, returned by stop.   Time: mr_sim_advance().
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
    MR_SIM_CALLS
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

/* Run `step(arg)` until it returns (true) or a MR_SIM_FAULT_CRASH hits (false;
 * the stack of `step` is abandoned, so step must own nothing outside the sim).
 */
bool mr_sim_run(void (*step)(void *arg), void *arg);

/* Power cut now: decide the fate of everything unsynced, close all handles. */
void mr_sim_crash(void);

void mr_sim_advance(int64_t ns);
void mr_sim_wall_jump(int64_t us);
void mr_sim_disk_limit(uint64_t bytes); /* ENOSPC beyond; 0 = none */

/* Bytes on the medium, for tests that flip or cut them.  MR_ERR_REJECT: no such file. */
enum mr_err mr_sim_file_damage(const char *path, uint64_t pos, uint8_t xor_with) MR_MUST_USE;
enum mr_err mr_sim_file_cut(const char *path, uint64_t bytes) MR_MUST_USE;

/* Streams: the next bytes written to `fd` reach its peer after `delay_ns`, in
 * pieces of at most `piece_max` bytes; break makes both ends see GONE.
 */
void mr_sim_stream_shape(int fd, int64_t delay_ns, size_t piece_max);
void mr_sim_stream_break(int fd);

#endif
