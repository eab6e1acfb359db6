/* session_machine.h - the broker of fuzz_session.c: on a simulated machine, in this process.
 *
 *     machine_open() ─▶ turns, time ─▶ machine_restart() ─▶ turns, time ... ─▶ machine_close()
 *
 * Journal, broker and session store are started by a thread of the simulated machine and live
 * until it is stopped, killed or loses its power; the disk stays.  Everything follows from the
 * seed and from what is done with it.
 *
 * Thread: one, the driver of os/sim.h.
 * Memory: static, and what the broker has; a crash gives that back too (session_heap.c).
 * Time:   os/sim.h; ns.
 */
#ifndef MR_TEST_FUZZ_SESSION_MACHINE_H
#define MR_TEST_FUZZ_SESSION_MACHINE_H

#include "base/span.h"

#define MACHINE_ADDRESS "127.0.0.1:1883"

/* What the broker lets its clients do, and tells those of 5.0. */
enum {
    MACHINE_PACKET_MAX = 4096, /* bytes */
    MACHINE_RECEIVE_MAX = 10,
    MACHINE_ALIASES = 5,     /* from a client */
    MACHINE_ALIASES_OUT = 3, /* to a client that allows as many */
    MACHINE_RETAINED_MAX = 20,
};

/* A promise is broken: say which, and end. */
_Noreturn void broken(const char *fmt, ...) MR_PRINTF(1, 2);

/* Of what happens, for whoever looks into a find: to stderr, if FUZZ_TELL is in the environment. */
void tell(const char *fmt, ...) MR_PRINTF(1, 2);

/* An empty disk, and the broker on it; the seed says how it is configured. */
void machine_open(uint64_t seed);
void machine_close(void); /* stopped in order; nothing is left of it */

enum machine_end { MACHINE_STOP, MACHINE_KILL, MACHINE_POWER_CUT };
/* The broker ends so and begins anew on what the disk has.  All connections are gone. */
void machine_restart(enum machine_end how);

/* Let everything run that can, without waiting for any time to come.  False: there was nothing. */
bool machine_run(void);

/* ... or for the next time at which something is due.  Returns how long that took. */
int64_t machine_wait(void);

int64_t machine_now_ns(void);

/* Call `what` on a thread of the machine, and wait for it. */
void machine_do(void (*what)(void *arg), void *arg);

/* What the broker holds for clients: of all shards. */
struct machine_books {
    uint64_t connections;
    uint64_t sessions;
    uint64_t keeps; /* of them persistent */
    uint64_t subscriptions;
    uint64_t queued;
    uint64_t kept;
    uint64_t kept_bytes;
    uint64_t retained;
    uint64_t retained_bytes;
    uint64_t waiting; /* wills, deliveries and answers that wait for the journal */
    uint64_t cleared; /* retained messages of which is still known that they were cleared */
    uint64_t lent;    /* bytes of the shards' pools */
};
void machine_look(struct machine_books *out);

/* Client ids of its sessions, whose names do not begin with `except`; and topics of retained
 * messages.  `each` may not send anything.
 */
void machine_sessions(const char *except, void (*each)(struct mr_span client_id));
void machine_retained(void (*each)(struct mr_span topic));

bool machine_kick(struct mr_span client_id); /* by the operator; false: it is not connected */

/* ---- session_heap.c ---- */

void heap_life_ends(void); /* what the broker had is free again */
size_t heap_blocks(void);  /* that it has now */

#endif
