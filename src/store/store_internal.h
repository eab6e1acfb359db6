/* store_internal.h - the insides of a session store; see store.h for the contract.
 *
 *     store.c      deltas, gathered, written and taken; reading
 *     store_env.c  the environment of LMDB in which they end
 *
 * INVARIANT
 *
 *   given_up => the writer does not touch `env` and `tables`; else the owner does not change
 *   them.  env is NULL while it could not be opened again.
 *
 * Thread: as store.h says; what is here is the owner's unless it says otherwise.
 * Memory: LMDB's.
 * Time:   opening reads two pages and writes one.
 */
#ifndef MR_STORE_STORE_INTERNAL_H
#define MR_STORE_STORE_INTERNAL_H

#include "store/store.h"

#include <lmdb.h>

enum { STORE_RETRY_NS = 1000000000, STORE_SAY_EVERY_US = 60000000 };

struct delta {
    uint8_t *bytes;
    size_t used;
    size_t capacity;
};

struct mr_store {
    MDB_env *env;
    MDB_dbi tables[MR_STORE_TABLES];
    MDB_txn *reading; /* the owner's snapshot; NULL: none yet */
    bool is_reading;
    struct delta gathering;
    struct delta sealed;
    bool is_sealed; /* owner */
    struct mr_thread *thread;
    struct mr_wake wake;
    struct mr_wake *owner;
    _Atomic bool submitted;
    _Atomic bool written;
    _Atomic bool failing;
    _Atomic bool given_up; /* by LMDB: it has to be opened again */
    _Atomic bool outgrown; /* ... with a larger map */
    _Atomic bool stopping;
    uint64_t map_bytes;
    int64_t reopen_ns; /* not before */
    char path[512];
};

/* In `path`, with its tables.  Results as mr_store_open().  close() also after a failed open. */
enum mr_err store_env_open(struct mr_store *store, struct mr_error *why) MR_MUST_USE;
void store_env_close(struct mr_store *store);

/* Has LMDB given it up for good?  The writer's question, behind a failed transaction. */
bool store_env_is_given_up(const struct mr_store *store);

/* Has the writer found that?  Any thread. */
bool store_is_given_up(const struct mr_store *store);

/* Then open it again, with a larger map if this one was full, unless it was tried a moment ago.
 * Only while nothing is being read.  False: it is not what was wanted.
 */
bool store_reopen(struct mr_store *store);

#endif
