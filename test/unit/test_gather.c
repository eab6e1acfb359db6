/* test_gather.c
 *
 * Goal:   commits are few where events come by themselves (bytes of journal, CPU), and who
 *         waits for an acknowledgement does not wait for company that is not coming.  The
 *         owner wakes up seldom where it may, and is in time nevertheless.
 * Method: a lane in miniature: events at given times, or clients that publish again when
 *         they are acknowledged; a disk that takes COMMIT_NS.  The clock is a variable.
 *
 * links: journal os_sim base
 */
#include "journal/gather_internal.h"

#include "base/rng.h"

enum { COMMIT_NS = 150000, LIMIT_NS = 500000, COMMITS = 2000, CLIENTS_MAX = 16 };

struct lane {
    struct gather gather;
    int64_t now_ns;
    int64_t done_ns; /* when the commit that runs is done; 0: none runs */
    uint64_t seq_next;
    uint64_t seq_acked; /* one past the last one acknowledged */
    uint64_t commits;
    uint64_t turns;
    bool naps; /* the owner takes them */
};

static struct mr_rng rng;

static struct lane lane_start(bool naps)
{
    struct lane lane = {.now_ns = 1000000000, .seq_next = 1, .seq_acked = 1, .naps = naps};

    mr_gather_start(&lane.gather, 1);
    return lane;
}

/* The owner's turn; then the time is that of the next one, `next_ns` at the latest. */
static void lane_turn(struct lane *lane, int64_t limit_ns, int64_t next_ns)
{
    int64_t left_ns = -1;
    int64_t nap_ns;

    lane->turns += 1;
    if (lane->done_ns != 0 && lane->now_ns >= lane->done_ns) {
        lane->done_ns = 0;
        lane->seq_acked = lane->gather.seq_handed;
        next_ns = lane->now_ns; /* those who wait are told */
    }
    mr_gather_look(&lane->gather, lane->seq_next, lane->done_ns != 0, lane->now_ns);
    if (lane->done_ns == 0 && lane->seq_next != lane->gather.seq_handed) {
        left_ns = mr_gather_left_ns(&lane->gather, limit_ns, lane->now_ns);
        mr_assert(left_ns >= 0 && left_ns <= limit_ns);
        if (left_ns == 0) {
            mr_gather_sealed(&lane->gather, (uint32_t)(lane->seq_next - lane->gather.seq_handed));
            mr_gather_handed(&lane->gather, limit_ns, lane->now_ns);
            lane->done_ns = lane->now_ns + COMMIT_NS;
            lane->commits += 1;
        } else if (lane->now_ns + left_ns < next_ns) {
            next_ns = lane->now_ns + left_ns;
        }
    }
    nap_ns = lane->naps && mr_gather_naps(&lane->gather, limit_ns)
                 ? mr_gather_nap_ns(&lane->gather, limit_ns, lane->now_ns)
                 : 0;
    mr_assert(nap_ns >= 0 && nap_ns <= 500000);
    if (nap_ns > 0 && lane->now_ns + nap_ns > next_ns) {
        next_ns = lane->now_ns + nap_ns; /* whatever comes until then */
    }
    if (lane->done_ns != 0 && lane->done_ns < next_ns) {
        next_ns = lane->done_ns;
    }
    lane->now_ns = next_ns > lane->now_ns ? next_ns : lane->now_ns;
}

struct load {
    int64_t gap_ns;  /* between events */
    bool by_chance;  /* as their mean; else exactly */
    int64_t cost_ns; /* of reading one */
};

static void open_loop(struct lane *lane, const struct load *load, int64_t limit_ns)
{
    int64_t next_ns = lane->now_ns;

    while (lane->commits < COMMITS) {
        while (next_ns <= lane->now_ns) {
            lane->seq_next += 1;
            lane->now_ns += load->cost_ns;
            next_ns += load->by_chance ? (int64_t)mr_rng_below(&rng, 2 * (uint64_t)load->gap_ns) + 1
                                       : load->gap_ns;
        }
        lane_turn(lane, limit_ns, next_ns);
    }
}

/* How many of such events a commit carries, times 100. */
static uint64_t gathered(int64_t gap_ns, bool by_chance, int64_t limit_ns)
{
    uint64_t least = UINT64_MAX;

    for (int naps = 0; naps <= 1; naps++) {
        struct lane lane = lane_start(naps);
        open_loop(&lane, &(struct load){.gap_ns = gap_ns, .by_chance = by_chance}, limit_ns);
        uint64_t records = lane.seq_next * 100 / lane.commits;
        least = records < least ? records : least;
    }
    return least;
}

/* Clients with one publish in flight each, which come again 10 to 60 us behind their
 * acknowledgement.  The mean time from one publish of a client to its next.
 */
static int64_t closed_loop(uint32_t clients, bool naps)
{
    struct lane lane = lane_start(naps);
    int64_t began_ns = lane.now_ns;
    uint64_t seq_of[CLIENTS_MAX] = {0}; /* what it waits for; 0: nothing */
    int64_t due_ns[CLIENTS_MAX];

    for (uint32_t i = 0; i < clients; i++) {
        due_ns[i] = lane.now_ns + (int64_t)mr_rng_below(&rng, 1000000);
    }
    while (lane.commits < COMMITS) {
        int64_t next_ns = INT64_MAX;

        for (uint32_t i = 0; i < clients; i++) {
            if (seq_of[i] != 0 && seq_of[i] < lane.seq_acked) {
                seq_of[i] = 0;
                due_ns[i] = lane.now_ns + 10000 + (int64_t)mr_rng_below(&rng, 50000);
            }
            if (seq_of[i] == 0 && due_ns[i] <= lane.now_ns) {
                seq_of[i] = lane.seq_next++;
            }
            next_ns = seq_of[i] == 0 && due_ns[i] < next_ns ? due_ns[i] : next_ns;
        }
        lane_turn(&lane, LIMIT_NS, next_ns);
    }
    return (lane.now_ns - began_ns) * clients / (int64_t)lane.seq_next;
}

/* From about 5,000 events/s on batches wait for them, up to the limit. */
static void test_events_that_come_by_themselves_share_commits(void)
{
    for (int by_chance = 0; by_chance <= 1; by_chance++) {
        mr_assert(gathered(100000, by_chance, LIMIT_NS) >= 420);
        mr_assert(gathered(50000, by_chance, LIMIT_NS) >= 900);
        mr_assert(gathered(50000, by_chance, LIMIT_NS) <= 1200);
        mr_assert(gathered(1000, by_chance, LIMIT_NS) >= 45000);
    }
    mr_assert(gathered(200000, true, LIMIT_NS) >= 140);
}

/* Where hardly anyone would join it, an event goes at once. */
static void test_few_events_do_not_wait(void)
{
    mr_assert(gathered(1000000, false, LIMIT_NS) <= 101);
    mr_assert(gathered(1000000, true, LIMIT_NS) <= 125);
}

static void test_the_limit_switches_it_off(void)
{
    mr_assert(gathered(100000, false, 0) <= 200);
    mr_assert(gathered(50000, false, 0) <= 400);
}

/* Whoever waits for us is back within 60 us, so a cycle needs no more than a commit and that;
 * of very many, some may come apart from the others, and have a commit of their own.
 */
static void test_clients_that_wait_are_not_kept_waiting(void)
{
    for (int naps = 0; naps <= 1; naps++) {
        mr_assert(closed_loop(1, naps) <= COMMIT_NS + 60000);
        for (uint32_t clients = 2; clients <= CLIENTS_MAX; clients++) {
            mr_assert(closed_loop(clients, naps) <=
                      (clients < 8 ? COMMIT_NS + 80000 : 2 * COMMIT_NS + 60000));
        }
    }
}

/* Turns of the owner for 100 events; `records`, if not NULL: what a commit carries, times 100. */
static uint64_t turns(const struct load *load, bool naps, uint64_t *records)
{
    struct lane lane = lane_start(naps);

    open_loop(&lane, load, LIMIT_NS);
    if (records != NULL) {
        *records = lane.seq_next * 100 / lane.commits;
    }
    return lane.turns * 100 / lane.seq_next;
}

static void test_the_owner_naps_while_events_gather(void)
{
    const struct load seldom = {.gap_ns = 1000000};
    const struct load often = {.gap_ns = 50000, .cost_ns = 5000};
    const struct load busy = {.gap_ns = 20000, .cost_ns = 12000, .by_chance = true};
    uint64_t apart;
    uint64_t records;

    mr_assert(turns(&seldom, true, NULL) >= turns(&seldom, false, NULL));
    mr_assert(turns(&often, true, &records) * 2 <= turns(&often, false, NULL));
    mr_assert(records <= 1200);

    /* With little time to spare it naps less, so that batches go as they would without. */
    (void)turns(&busy, false, &apart);
    mr_assert(turns(&busy, true, &records) <= 100);
    mr_assert(records <= apart * 5 / 4);
}

int main(void)
{
    mr_rng_seed(&rng, 7);
    test_events_that_come_by_themselves_share_commits();
    test_few_events_do_not_wait();
    test_the_limit_switches_it_off();
    test_clients_that_wait_are_not_kept_waiting();
    test_the_owner_naps_while_events_gather();
    return 0;
}
