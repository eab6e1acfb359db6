/* store.h - the materialised state of sessions, as of a seq per lane.
 *
 *     shard ──put, delete──▶ delta ──submit──▶ thread `sessions` ──one transaction──▶ LMDB
 *     start ◀──each── LMDB            shard ◀──get── LMDB (messages that left memory)
 *
 * Tables of small keys and values; what they hold is the broker's affair
 * (docs/SESSIONS.md).  A delta is applied as a whole or not at all.  LMDB is behind
 * this header alone.
 *
 * Thread: open, close, each: one thread.  put, delete, submit, get: the owner, one
 *         thread.  Deltas are written by a thread of the store.
 * Memory: the delta being gathered and the one being written; LMDB's pages belong to
 *         the page cache.
 * Time:   put ~20 ns and a copy; get ~1 us when cached.
 */
#ifndef MR_STORE_STORE_H
#define MR_STORE_STORE_H

#include "base/span.h"
#include "os/thread.h"

struct mr_store;

enum mr_store_table {
    MR_STORE_VECTOR,
    MR_STORE_SESSIONS,
    MR_STORE_SUBSCRIPTIONS,
    MR_STORE_DELIVERIES,
    MR_STORE_MESSAGES,
    MR_STORE_RETAINED,
    MR_STORE_TABLES
};

enum { MR_STORE_KEY_MAX = 64 };

/* What to do with one that cannot be read, and what it costs. */
#define MR_STORE_MOVE_AWAY                                                                       \
    "move the folder away to start without it: of sessions and retained messages there is then " \
    "what the journal still has, bridges lose nothing"

struct mr_store_options {
    const char *path;      /* a folder; made if it is not there */
    uint64_t map_bytes;    /* address space at first, which grows with the file; 0: 64 GiB */
    struct mr_wake *owner; /* rung when a delta has been written; may be NULL */
    bool manual;           /* tests: no thread; submit() writes */
};

/* CONFIG: the folder cannot be used, or a newer millrace has written it; `why` says it.
 * CORRUPT: damaged.  FULL: the disk has no room for it; IO: it fails.
 */
enum mr_err mr_store_open(struct mr_store **out, const struct mr_store_options *options,
                          struct mr_error *why) MR_MUST_USE;

/* What was submitted is tried once more; what was only gathered is forgotten. */
void mr_store_close(struct mr_store *store);

/* ---- at start ---- */

/* Call `each` for every row in the order of the keys, until it says false.  False:
 * it did, or the store cannot be read.
 */
bool mr_store_each(struct mr_store *store, enum mr_store_table table,
                   bool (*each)(void *arg, struct mr_span key, struct mr_span value), void *arg);

/* Empty all tables, at once.  False: it cannot be written. */
bool mr_store_clear(struct mr_store *store);

/* ---- gathering ---- */

void mr_store_put(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                  struct mr_span value);

/* As put, but the caller writes the `len` bytes of the value; valid until the next call. */
uint8_t *mr_store_put_room(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                           size_t len);

/* No error if there is no such row. */
void mr_store_delete(struct mr_store *store, enum mr_store_table table, struct mr_span key);

size_t mr_store_gathered(const struct mr_store *store); /* bytes of the delta */

/* Close what was gathered: it becomes the next delta, whatever is gathered from now on
 * the one after it.  Nothing may be sealed or being written.
 */
void mr_store_seal(struct mr_store *store);

/* Write what was sealed.  The owner is rung when it is done; until then every second
 * another try, each failure logged.
 */
void mr_store_submit(struct mr_store *store);

/* The last try failed: when the next one succeeds, nobody knows. */
bool mr_store_is_failing(const struct mr_store *store);

/* True once for each delta that has been written. */
bool mr_store_take_written(struct mr_store *store);

/* ---- reading ---- */

/* The value of `key`, valid until read_end().  REJECT: no such row.   IO. */
enum mr_err mr_store_get(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                         struct mr_span *value) MR_MUST_USE;

/* After gets: give the snapshot back. */
void mr_store_read_end(struct mr_store *store);

#endif
