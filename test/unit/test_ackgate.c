/* test_ackgate.c
 * links: broker base
 *
 * Goal:   no byte leaves before its record is durable; none is lost, doubled or out
 *         of order; what was owed to a connection that has gone reaches no one.
 * Method: edges by hand; then a seeded random walk of connections that come, are
 *         owed acks of random length, and go, against the dumbest model: per
 *         connection the list of (seq, byte).  Replay: ./test_ackgate <seed>
 */
#include "base/rng.h"
#include "broker/ackgate.h"

#include <stdio.h>
#include <stdlib.h>

static struct mr_bufpool pool;

static struct mr_ackgate *gate_of(uint32_t entries_max)
{
    struct mr_ackgate *gate = NULL;

    mr_assert(mr_ackgate_open(&gate, &pool, entries_max) == MR_OK);
    return gate;
}

static void hold(struct mr_ackgate *gate, struct mr_acks *acks, uint64_t conn_id, uint64_t seq)
{
    mr_assert(mr_ackgate_reserve(gate, acks, 4) == MR_OK);
    mr_ackgate_hold(gate, acks, conn_id, seq, "\x40\x02\0\1", 4);
}

static void test_rejects_bad_capacity(void)
{
    struct mr_ackgate *gate = NULL;

    mr_assert(mr_ackgate_open(&gate, &pool, 0) == MR_ERR_CONFIG);
    mr_assert(mr_ackgate_open(&gate, &pool, 3) == MR_ERR_CONFIG);
}

static void test_one_entry_per_read(void)
{
    struct mr_ackgate *gate = gate_of(8);
    struct mr_acks a = {0};
    struct mr_owed out[8];

    for (uint64_t seq = 1; seq <= 100; seq++) {
        hold(gate, &a, 1, seq);
    }
    mr_assert(mr_ackgate_release(gate, 99, out, 8) == 0); /* the last decides */
    mr_assert(mr_acks_due(&a).len == 0);
    mr_assert(mr_ackgate_held(gate) == 100);
    mr_assert(mr_ackgate_release(gate, 100, out, 8) == 1);
    mr_assert(out[0].bytes == 400 && out[0].acks == 100 && out[0].conn_id == 1);
    mr_acks_allow(&a, &out[0]);
    mr_assert(mr_acks_due(&a).len == 400 && mr_acks_held(&a) == 0);
    mr_acks_left(gate, &a);
    mr_assert(a.run == NULL && pool.lent_bytes == 0);
    mr_ackgate_close(gate);
}

static void test_cut_and_other_connections_end_an_entry(void)
{
    struct mr_ackgate *gate = gate_of(8);
    struct mr_acks a = {0};
    struct mr_acks b = {0};
    struct mr_owed out[8];

    hold(gate, &a, 1, 1);
    mr_ackgate_cut(gate);
    hold(gate, &a, 1, 2);
    hold(gate, &b, 2, 3);
    hold(gate, &a, 1, 4);
    mr_assert(mr_ackgate_release(gate, 2, out, 8) == 2);
    mr_assert(mr_ackgate_release(gate, 10, out, 8) == 2);
    mr_assert(out[0].seq == 3 && out[1].seq == 4);
    mr_acks_drop(gate, &a);
    mr_acks_drop(gate, &b);
    mr_ackgate_close(gate);
}

static void test_refuses_when_full(void)
{
    struct mr_ackgate *gate = gate_of(2);
    struct mr_acks a = {0};
    struct mr_acks b = {0};
    struct mr_owed out[2];

    hold(gate, &a, 1, 7);
    hold(gate, &b, 2, 8);
    mr_assert(mr_ackgate_reserve(gate, &a, 4) == MR_ERR_FULL);
    mr_assert(mr_ackgate_release(gate, 7, out, 2) == 1);
    mr_assert(mr_ackgate_reserve(gate, &a, 4) == MR_OK);
    mr_acks_drop(gate, &a);
    mr_acks_drop(gate, &b);
    mr_ackgate_close(gate);
}

static void test_full_pool_changes_nothing(void)
{
    struct mr_bufpool small;
    struct mr_ackgate *gate = NULL;
    struct mr_acks a = {0};
    uint32_t held = 0;

    mr_bufpool_init(&small, 512, 0);
    mr_assert(mr_ackgate_open(&gate, &small, 8) == MR_OK);
    while (mr_ackgate_reserve(gate, &a, 4) == MR_OK) {
        held += 1;
        mr_ackgate_hold(gate, &a, 1, held, "1234", 4);
    }
    mr_assert(held >= 11 && mr_acks_held(&a) == held && a.run->end == 4 * held);
    mr_acks_drop(gate, &a);
    mr_ackgate_close(gate);
    mr_bufpool_fini(&small);
}

/* Tides of entries, each higher than the one before, and each beginning at another place of the
 * ring: what is released is what was entered, in order, up to a full gate.
 */
static void test_grows_to_its_maximum(void)
{
    enum { MOST = 1 << 14 };
    struct mr_ackgate *gate = gate_of(MOST);
    static struct mr_owed out[MOST];
    struct mr_acks two[2] = {{0}, {0}};
    uint64_t entered = 0;
    uint64_t released = 0;

    for (uint64_t tide = 1; tide <= MOST; tide = tide * 3 / 2 + 1) {
        while (entered - released < tide) {
            entered += 1;
            mr_acks_drop(gate, &two[entered % 2]);
            hold(gate, &two[entered % 2], entered, entered);
        }
        size_t count = mr_ackgate_release(gate, entered - tide / 5, out, MOST);
        mr_assert(count == entered - tide / 5 - released);
        for (size_t i = 0; i < count; i++) {
            released += 1;
            mr_assert(out[i].seq == released && out[i].conn_id == released);
        }
    }
    while (mr_ackgate_reserve(gate, &two[0], 4) == MR_OK) {
        entered += 1;
        mr_ackgate_hold(gate, &two[0], entered, entered, "1234", 4);
    }
    mr_assert(entered - released == MOST);
    mr_assert(mr_ackgate_release(gate, entered, out, MOST) == MOST);
    mr_assert(out[0].seq == released + 1 && out[MOST - 1].seq == entered);
    mr_acks_drop(gate, &two[0]);
    mr_acks_drop(gate, &two[1]);
    mr_ackgate_close(gate);
}

static long resident_pages(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long size = 0;
    long resident = 0;

    mr_assert(file != NULL && fscanf(file, "%ld %ld", &size, &resident) == 2);
    (void)fclose(file);
    return resident;
}

/* A large gate that never holds more than two entries does not walk through all of its memory. */
static void test_touches_what_it_needs(void)
{
    struct mr_ackgate *gate = gate_of(1 << 20);
    struct mr_acks a = {0};
    struct mr_owed out[2];
    long before = resident_pages();

    hold(gate, &a, 1, 1);
    for (uint64_t seq = 2; seq < (1 << 20); seq++) {
        hold(gate, &a, seq, seq);
        mr_assert(mr_ackgate_release(gate, seq - 1, out, 2) == 1);
        mr_acks_allow(&a, &out[0]);
        mr_acks_left(gate, &a);
    }
    mr_assert(resident_pages() - before < (2 << 20) / 4096);
    mr_acks_drop(gate, &a);
    mr_ackgate_close(gate);
}

/* ---- the model ---- */

enum { SLOTS = 12, OWED_MAX = 4096 };

struct model {
    struct mr_acks acks;
    uint64_t conn_id;
    uint64_t seqs[OWED_MAX]; /* of each byte owed, oldest first */
    uint8_t bytes[OWED_MAX];
    size_t count;
};

static struct model models[SLOTS];

static struct model *model_find(uint64_t conn_id)
{
    struct model *model = &models[conn_id % SLOTS];

    return model->conn_id == conn_id ? model : NULL;
}

static void model_leave(struct mr_ackgate *gate, struct model *model, uint64_t durable)
{
    struct mr_span due = mr_acks_due(&model->acks);

    mr_assert(due.len <= model->count);
    for (size_t i = 0; i < due.len; i++) {
        mr_assert(model->seqs[i] <= durable);
        mr_assert(model->bytes[i] == due.at[i]);
    }
    model->count -= due.len;
    memmove(model->seqs, model->seqs + due.len, model->count * sizeof(model->seqs[0]));
    memmove(model->bytes, model->bytes + due.len, model->count);
    mr_acks_left(gate, &model->acks);
}

static void walk_hold(struct mr_rng *rng, struct mr_ackgate *gate, uint64_t *seq)
{
    struct model *model = &models[mr_rng_below(rng, SLOTS)];
    uint64_t burst = 1 + mr_rng_below(rng, 6);

    for (uint64_t i = 0; i < burst; i++) {
        uint8_t bytes[8];
        uint32_t len = 1 + (uint32_t)mr_rng_below(rng, sizeof(bytes));
        if (model->count + len > OWED_MAX || mr_ackgate_reserve(gate, &model->acks, len) != MR_OK) {
            break;
        }
        /* Sometimes an answer waits only for its turn, at a seq already used. */
        uint64_t at = mr_rng_below(rng, 5) == 0 ? mr_ackgate_seq_last(gate) : ++*seq;
        for (uint32_t k = 0; k < len; k++) {
            bytes[k] = (uint8_t)mr_rng_u64(rng);
            model->seqs[model->count] = at;
            model->bytes[model->count++] = bytes[k];
        }
        mr_ackgate_hold(gate, &model->acks, model->conn_id, at, bytes, len);
    }
    if (mr_rng_below(rng, 3) != 0) {
        mr_ackgate_cut(gate);
    }
}

static void walk_release(struct mr_rng *rng, struct mr_ackgate *gate, uint64_t seq,
                         uint64_t *durable)
{
    struct mr_owed out[16];
    size_t count;

    *durable += mr_rng_below(rng, seq - *durable + 1);
    do {
        count = mr_ackgate_release(gate, *durable, out, MR_COUNT_OF(out));
        for (size_t i = 0; i < count; i++) {
            struct model *model = model_find(out[i].conn_id);
            mr_assert(out[i].seq <= *durable);
            if (model != NULL) {
                mr_acks_allow(&model->acks, &out[i]);
                if (mr_rng_below(rng, 4) != 0) { /* else sent with a later one */
                    model_leave(gate, model, *durable);
                }
            }
        }
    } while (count == MR_COUNT_OF(out));
    for (size_t i = 0; i < SLOTS; i++) {
        model_leave(gate, &models[i], *durable);
        /* Nothing durable may stay behind, except for the end of a read that
         * shares its entry with what is not durable yet.
         */
        mr_assert(*durable < seq || models[i].count == 0);
    }
}

static void test_random_walk(uint64_t seed)
{
    struct mr_ackgate *gate = gate_of(64);
    struct mr_rng rng;
    uint64_t seq = 0;
    uint64_t durable = 0;

    mr_rng_seed(&rng, seed);
    for (size_t i = 0; i < SLOTS; i++) {
        models[i] = (struct model){.conn_id = SLOTS + i};
    }
    for (int step = 0; step < 200000; step++) {
        uint64_t kind = mr_rng_below(&rng, 100);
        if (kind < 70) {
            walk_hold(&rng, gate, &seq);
        } else if (kind < 97) {
            walk_release(&rng, gate, seq, &durable);
        } else { /* one goes, another takes its slot */
            struct model *model = &models[mr_rng_below(&rng, SLOTS)];
            mr_acks_drop(gate, &model->acks);
            model->conn_id += SLOTS;
            model->count = 0;
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        mr_acks_drop(gate, &models[i].acks);
    }
    mr_ackgate_close(gate);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    mr_bufpool_init(&pool, 16 << 20, 1 << 20);
    test_rejects_bad_capacity();
    test_one_entry_per_read();
    test_cut_and_other_connections_end_an_entry();
    test_refuses_when_full();
    test_full_pool_changes_nothing();
    test_grows_to_its_maximum();
    test_touches_what_it_needs();
    test_random_walk(seed);
    mr_assert(pool.lent_bytes == 0);
    mr_bufpool_fini(&pool);
    return 0;
}
