/* machine.h - what the parts of the simulated gateway share.
 *
 *     machine.c   its main thread: start, orders, stop; what the world sees of it
 *     bridges.c   the bridges, as the configuration wants them now
 *     scan.c      what the journal holds, appends and gives up, for the ledger
 *
 * Thread: the gateway's main thread; the driver looks.   Memory: static.   Time: os/sim.h.
 */
#ifndef MR_TEST_SIM_MACHINE_H
#define MR_TEST_SIM_MACHINE_H

#include "pipeline/bridge.h"
#include "world.h"

/* ---- bridges.c ---- */

extern const char *const bridge_names[BRIDGES_MAX];
extern const struct mr_list bridge_from;

/* The workers that run, of all bridges and lanes. */
enum { WORKERS_MAX = BRIDGES_MAX * LANES_MAX };
extern struct workers {
    struct mr_bridge *all[WORKERS_MAX];
    uint32_t of[WORKERS_MAX]; /* index of the bridge */
    uint32_t count;
} workers;

void bridges_forget(void);      /* a crash has taken them */
void bridges_lose_places(void); /* a stop could not write how far they are */

/* All that the configuration has. */
enum mr_err bridges_start(struct mr_journal *journal, struct mr_error *why);
void bridges_stop(int64_t patience_ns);

/* The configuration has changed: this bridge comes, goes, or is another one.  The error is that
 * of one that does not run now.
 */
enum mr_err bridge_reconfigure(struct mr_journal *journal, uint32_t bridge, struct mr_error *why);

bool bridge_is_wanted(uint32_t bridge); /* the configuration has it */
bool bridge_runs(uint32_t bridge);
bool bridge_may_be_dropped(uint32_t bridge); /* its events, or could have been by now */

/* ---- scan.c ---- */

/* All records, at a start; the ledger looks for what lacks. */
enum mr_err scan_journal(struct mr_journal *journal, struct mr_error *why);

/* From here on appends to it are told to the ledger; NULL: to none. */
void scan_appends_of(struct mr_journal *journal);

void scan_drops(struct mr_journal *journal); /* what it has given up */

#endif
