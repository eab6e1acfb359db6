/* ackgate.c - see ackgate.h for the contract.
 *
 * DESIGN
 *
 * A ring of entries.  Because the journal assigns sequence numbers in the order
 * we append, and becomes durable in that same order, the ring is sorted by
 * construction and release() never has to search: it pops from the tail until
 * it meets a record that is not durable yet.
 *
 * The acks' bytes are written when the PUBLISH is parsed, into a buffer of the
 * connection.  Acks of one read of one connection share an entry: nothing is
 * appended between them, so the entry's seq is that of the last, and waiting for
 * it delays the others by nothing that counts, for one read is nearly always in
 * one commit.  When an entry is released, its bytes follow the bytes released
 * before, so two numbers per connection (due, end) replace a list.
 *
 * head and tail count entries since start-up and never wrap in practice (2^64).
 *
 * The ring is as large as what was ever in it at once: a gate for a million entries that mostly
 * holds ten touches few cache lines.  Its memory is there from the start, so growing is moving
 * half of the entries within it.
 *
 * Rejected: one ring slot per ack.  At a million acks per second the ring alone
 * is 24 MB/s of memory traffic, and each ack is looked up by connection again.
 *
 * Rejected: one list per connection.  Every release would touch as many cache
 * lines as there are connections.
 *
 * INVARIANTS (checked by gate_check when an entry is made, cut or released, by run_check when
 * bytes may leave)
 *
 *   (1) 0 <= head - tail <= mask + 1 <= entries_max, both powers of two.
 *   (2) Sequence numbers do not decrease from tail to head.
 *   (3) seq_last is the seq at head - 1, or of the last entry released.  `open` is NULL or the
 *       entry at head - 1; `full` says whether there is one to make.
 *   (4) begin <= due <= end <= room; [due, end) is exactly the sum of the
 *       bytes of this connection's entries in the ring.
 *   (5) After release(D) either the caller's array is full or the oldest
 *       remaining entry has seq > D.
 */
#include "broker/ackgate.h"

enum {
    ACKS_FIRST_BYTES = 64, /* 11 PUBACKs; the pool's smallest buffer */
    RING_FIRST = 256,      /* entries */
};

struct mr_ackgate {
    struct mr_ackgate_front front; /* first: mr_ackgate_front() */
    uint64_t head;                 /* entries ever made */
    uint64_t tail;                 /* entries ever released */
    uint64_t seq_released;         /* newest seq passed to release() */
    uint64_t mask;                 /* entries of the ring as it is now - 1 */
    uint64_t entries_max;
    struct mr_bufpool *pool;
    struct mr_owed *ring;
};

static void gate_check(const struct mr_ackgate *gate)
{
    mr_assert(gate->tail <= gate->head);
    mr_assert(gate->head - gate->tail <= gate->mask + 1);
    mr_assert(gate->mask < gate->entries_max);
    mr_assert(gate->front.full == (gate->head - gate->tail == gate->entries_max));
    if (gate->head != gate->tail) {
        const struct mr_owed *oldest = &gate->ring[gate->tail & gate->mask];
        const struct mr_owed *newest = &gate->ring[(gate->head - 1) & gate->mask];
        mr_assert(oldest->seq <= newest->seq);
        mr_assert(newest->seq == gate->front.seq_last);
    }
}

static void run_check(const struct mr_acks_run *run)
{
    mr_assert(run->begin <= run->due && run->due <= run->end);
    mr_assert(run->end <= run->room);
}

enum mr_err mr_ackgate_open(struct mr_ackgate **out, struct mr_bufpool *pool, uint32_t entries_max)
{
    if (entries_max == 0 || (entries_max & (entries_max - 1)) != 0) {
        return MR_ERR_CONFIG;
    }
    struct mr_ackgate *gate = mr_alloc(sizeof(*gate));

    gate->ring = mr_alloc(sizeof(*gate->ring) * entries_max);
    gate->entries_max = entries_max;
    gate->mask = (entries_max < RING_FIRST ? entries_max : RING_FIRST) - 1;
    gate->pool = pool;
    gate_check(gate);
    *out = gate;
    return MR_OK;
}

void mr_ackgate_close(struct mr_ackgate *gate)
{
    if (gate != NULL) {
        mr_free(gate->ring);
        mr_free(gate);
    }
}

static void run_give(struct mr_ackgate *gate, struct mr_acks_run *run)
{
    mr_bufpool_give(gate->pool, (uint8_t *)run, sizeof(*run) + run->room);
}

/* Room for `len` bytes behind `end`: move down what is left, or take twice as much. */
static enum mr_err acks_grow(struct mr_ackgate *gate, struct mr_acks *acks, uint32_t len)
{
    struct mr_acks_run *run = acks->run;
    uint32_t used = run == NULL ? 0 : run->end - run->begin;
    struct mr_acks_run *to = run;

    if (run == NULL || (used + len) * 2 > run->room) {
        size_t wanted = run == NULL ? ACKS_FIRST_BYTES : (sizeof(*run) + run->room) * 2;
        size_t least = sizeof(*run) + used + len;
        size_t capacity = 0;
        to = (struct mr_acks_run *)(void *)mr_bufpool_take(
            gate->pool, wanted < least ? least : wanted, &capacity);
        if (to == NULL) {
            return MR_ERR_FULL;
        }
        *to = (struct mr_acks_run){.room = (uint32_t)(capacity - sizeof(*to))};
    }
    if (run != NULL) {
        memmove(to->bytes, run->bytes + run->begin, used);
        to->due = run->due - run->begin;
        to->held = run->held;
    }
    to->end = used;
    to->begin = 0;
    if (run != NULL && to != run) {
        run_give(gate, run);
    }
    acks->run = to;
    return MR_OK;
}

enum mr_err mr_ackgate_make_room(struct mr_ackgate *gate, struct mr_acks *acks, uint32_t len)
{
    const struct mr_acks_run *run = acks->run;

    if (gate->front.full) {
        return MR_ERR_FULL;
    }
    if (run != NULL && len <= run->room - run->end) {
        return MR_OK;
    }
    return acks_grow(gate, acks, len);
}

static void ring_changed(struct mr_ackgate *gate)
{
    gate->front.full = gate->head - gate->tail == gate->entries_max;
}

/* It is full: every place is taken.  In one of twice the size each entry stays or has its place in
 * the new half.
 */
static void ring_double(struct mr_ackgate *gate)
{
    uint64_t half = gate->mask + 1;

    gate->mask = gate->mask * 2 + 1;
    mr_assert(gate->mask < gate->entries_max);
    for (uint64_t at = gate->tail; at != gate->head; at++) {
        if ((at & half) != 0) {
            gate->ring[at & gate->mask] = gate->ring[at & (half - 1)];
        }
    }
}

struct mr_owed *mr_ackgate_enter(struct mr_ackgate *gate, uint64_t conn_id, uint64_t seq)
{
    gate_check(gate);
    mr_assert(!gate->front.full);
    if (MR_UNLIKELY(gate->head - gate->tail > gate->mask)) {
        ring_double(gate);
    }
    struct mr_owed *owed = &gate->ring[gate->head & gate->mask];
    *owed = (struct mr_owed){.seq = gate->front.seq_last, .seq_first = seq, .conn_id = conn_id};
    gate->head += 1;
    gate->front.open = owed;
    ring_changed(gate);
    return owed;
}

uint64_t mr_ackgate_seq_last(const struct mr_ackgate *gate)
{
    return gate->front.seq_last;
}

void mr_ackgate_cut(struct mr_ackgate *gate)
{
    gate_check(gate);
    gate->front.open = NULL;
}

bool mr_ackgate_is_crowded(const struct mr_ackgate *gate)
{
    return gate->head - gate->tail > (gate->entries_max - 1) / 4 * 3;
}

bool mr_ackgate_is_due(const struct mr_ackgate *gate, uint64_t durable_seq)
{
    return gate->head != gate->tail && gate->ring[gate->tail & gate->mask].seq <= durable_seq;
}

bool mr_ackgate_is_awaited(const struct mr_ackgate *gate, uint64_t seq)
{
    return gate->head != gate->tail && gate->ring[gate->tail & gate->mask].seq_first <= seq;
}

size_t mr_ackgate_release(struct mr_ackgate *gate, uint64_t durable_seq, struct mr_owed *out,
                          size_t out_max)
{
    size_t count = 0;

    mr_assert(durable_seq >= gate->seq_released);
    gate->seq_released = durable_seq;
    while (count < out_max && mr_ackgate_is_due(gate, durable_seq)) {
        out[count] = gate->ring[gate->tail & gate->mask];
        gate->front.held -= out[count].acks;
        gate->tail += 1;
        count += 1;
    }
    if (gate->head == gate->tail) {
        gate->front.open = NULL; /* the newest entry has left; it must not grow */
    }
    ring_changed(gate);
    gate_check(gate);
    return count;
}

uint64_t mr_ackgate_held(const struct mr_ackgate *gate)
{
    return gate->front.held;
}

void mr_acks_allow(struct mr_acks *acks, const struct mr_owed *owed)
{
    struct mr_acks_run *run = acks->run;

    mr_assert(run != NULL && owed->bytes <= run->end - run->due && owed->acks <= run->held);
    run->due += owed->bytes;
    run->held -= owed->acks;
    run_check(run);
}

struct mr_span mr_acks_due(const struct mr_acks *acks)
{
    const struct mr_acks_run *run = acks->run;

    if (run == NULL || run->due == run->begin) {
        return (struct mr_span){.at = NULL, .len = 0};
    }
    return (struct mr_span){.at = run->bytes + run->begin, .len = run->due - run->begin};
}

void mr_acks_left(struct mr_ackgate *gate, struct mr_acks *acks)
{
    struct mr_acks_run *run = acks->run;

    if (run == NULL) {
        return;
    }
    run->begin = run->due;
    run_check(run);
    if (run->begin == run->end) {
        mr_acks_drop(gate, acks);
    }
}

void mr_acks_drop(struct mr_ackgate *gate, struct mr_acks *acks)
{
    if (acks->run != NULL) {
        run_give(gate, acks->run);
        acks->run = NULL;
    }
}
