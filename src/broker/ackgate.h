/* ackgate.h - hold answers back until their records are durable.
 *
 * A publisher that receives a PUBACK forgets the message.  From that moment we
 * are the only ones who have it, so the PUBACK may leave the process only after
 * the journal has reported the record durable.  The gate is the one place where
 * that promise is kept: every QoS > 0 acknowledgement passes through it, and
 * nothing else in the broker decides when to acknowledge (docs/ACKGATE.md).
 *
 *     PUBLISH ─▶ mr_lane_append() = seq ─▶ mr_ackgate_hold(seq, bytes)
 *     durable up to N ─▶ mr_ackgate_release(N) ─▶ mr_acks_allow() ─▶ one send each
 *
 * What is held is a run of encoded bytes; the gate does not know which packets.
 * The bytes lie in a buffer of their connection; the gate has one entry per
 * connection and read, not one per ack.
 *
 * Thread: owned by one event loop.  Never shared, hence no locks.
 * Memory: entries_max entries at open, of which it touches twice as many as were ever held at once;
 *         the bytes are lent by the pool while something is held.
 * Time:   none.  The gate does no I/O and reads no clock.
 */
#ifndef MR_BROKER_ACKGATE_H
#define MR_BROKER_ACKGATE_H

#include "base/bufpool.h"
#include "base/span.h"

struct mr_ackgate;

/* The held bytes of one connection, in a lent buffer. */
struct mr_acks_run {
    uint32_t room;  /* of bytes */
    uint32_t begin; /* the first byte that has not left */
    uint32_t due;   /* bytes before it may leave */
    uint32_t end;   /* bytes behind `due` wait for the journal */
    uint32_t held;  /* acks in [due, end) */
    uint8_t bytes[];
};

/* Lives in the connection, all zero at first. */
struct mr_acks {
    struct mr_acks_run *run; /* NULL while nothing is held */
};

/* Acks that wait for the journal. */
static inline uint32_t mr_acks_held(const struct mr_acks *acks)
{
    return acks->run == NULL ? 0 : acks->run->held;
}

/* What a connection is owed once `seq` is durable. */
struct mr_owed {
    uint64_t seq;
    uint64_t seq_first; /* of the first of its acks, which were held in one read */
    uint64_t conn_id;   /* slot + generation, so a stale id matches no one */
    uint32_t bytes;
    uint32_t acks;
    uint32_t plain; /* of the acks: noted so (mr_ackgate_note_plain()) */
};

/* What every PUBLISH meets of a gate, so that the two calls it makes are inlined; the whole is
 * ackgate.c's, which keeps it.
 */
struct mr_ackgate_front {
    struct mr_owed *open; /* the newest entry while it may grow; else NULL */
    uint64_t seq_last;    /* newest seq accepted by hold() */
    uint64_t held;        /* acks in the ring */
    bool full;            /* of entries */
};

static inline struct mr_ackgate_front *mr_ackgate_front(struct mr_ackgate *gate)
{
    return (struct mr_ackgate_front *)(void *)gate; /* its first member */
}

/* `entries_max`: power of two; bounds connections × reads waiting for the disk.
 * `pool` outlives the gate.
 */
enum mr_err mr_ackgate_open(struct mr_ackgate **out, struct mr_bufpool *pool,
                            uint32_t entries_max) MR_MUST_USE;
void mr_ackgate_close(struct mr_ackgate *gate);

/* Make sure that one hold of `len` bytes will succeed: called before the append
 * that cannot be undone.  FULL: stop reading from the connection and try again
 * after the next release.
 */
enum mr_err mr_ackgate_make_room(struct mr_ackgate *gate, struct mr_acks *acks,
                                 uint32_t len) MR_MUST_USE; /* where there is none yet */
MR_MUST_USE static inline enum mr_err mr_ackgate_reserve(struct mr_ackgate *gate,
                                                         struct mr_acks *acks, uint32_t len)
{
    const struct mr_acks_run *run = acks->run;

    if (MR_LIKELY(run != NULL && len <= run->room - run->end && !mr_ackgate_front(gate)->full)) {
        return MR_OK;
    }
    return mr_ackgate_make_room(gate, acks, len);
}

/* Three quarters of the entries are in use: what comes of its own accord had better wait. */
bool mr_ackgate_is_crowded(const struct mr_ackgate *gate);

/* Hold one ack of `len` bytes (reserved before) until `seq` is durable.  In
 * journal order: `seq` may not be lower than that of any earlier call.
 */
struct mr_owed *mr_ackgate_enter(struct mr_ackgate *gate, uint64_t conn_id,
                                 uint64_t seq); /* a new entry */
static inline void mr_ackgate_hold(struct mr_ackgate *gate, struct mr_acks *acks, uint64_t conn_id,
                                   uint64_t seq, const void *bytes, uint32_t len)
{
    struct mr_ackgate_front *front = mr_ackgate_front(gate);
    struct mr_acks_run *run = acks->run;
    struct mr_owed *owed = front->open;

    mr_assert(seq >= front->seq_last && run != NULL && len <= run->room - run->end);
    if (MR_UNLIKELY(owed == NULL || owed->conn_id != conn_id)) {
        owed = mr_ackgate_enter(gate, conn_id, seq);
    }
    memcpy(run->bytes + run->end, bytes, len);
    run->end += len;
    run->held += 1;
    owed->seq = seq;
    owed->bytes += len;
    owed->acks += 1;
    front->seq_last = seq;
    front->held += 1;
}

/* The ack that was held just now ends nothing that its connection has begun. */
static inline void mr_ackgate_note_plain(struct mr_ackgate *gate)
{
    mr_ackgate_front(gate)->open->plain += 1;
}

/* For answers that wait for nothing but their turn behind earlier ones: the
 * lowest seq that may be held now.
 */
uint64_t mr_ackgate_seq_last(const struct mr_ackgate *gate);

/* The read is over: what comes next gets an entry of its own. */
void mr_ackgate_cut(struct mr_ackgate *gate);

/* Take out, oldest first, up to `out_max` entries with seq <= durable_seq; returns
 * how many, `out_max` means "call again".  Each is handed out exactly once.
 * `durable_seq` never goes backwards.
 */
size_t mr_ackgate_release(struct mr_ackgate *gate, uint64_t durable_seq, struct mr_owed *out,
                          size_t out_max) MR_MUST_USE;

/* Would release(durable_seq) hand out anything? */
bool mr_ackgate_is_due(const struct mr_ackgate *gate, uint64_t durable_seq);

/* Is an ack held for something up to `seq`, alone or with later ones of its read? */
bool mr_ackgate_is_awaited(const struct mr_ackgate *gate, uint64_t seq);

/* Acks held now, those of connections that have gone included. */
uint64_t mr_ackgate_held(const struct mr_ackgate *gate);

/* A released entry's bytes may leave.  `acks` is that of its connection. */
void mr_acks_allow(struct mr_acks *acks, const struct mr_owed *owed);

/* The bytes that may leave and have not; then mr_acks_left() after sending. */
struct mr_span mr_acks_due(const struct mr_acks *acks);
void mr_acks_left(struct mr_ackgate *gate, struct mr_acks *acks);

/* The connection is gone: give the buffer back.  Its entries drain by themselves. */
void mr_acks_drop(struct mr_ackgate *gate, struct mr_acks *acks);

#endif
