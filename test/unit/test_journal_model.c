/* test_journal_model.c
 *
 * Goal:   no sequence of appends, commits, reads, cursor moves, crashes, full disks
 *         and failing calls loses a durable event, invents one, changes one, or
 *         takes away what a cursor still needs.
 * Method: a seeded random walk over the simulated disk, with faults injected into
 *         random calls (recovery included), against the dumbest possible model: for
 *         every seq, in which life of the process it was last appended, and how far
 *         was reported durable.  Payloads are made from both, so a record of an
 *         earlier life under a reused seq would show.
 *         ./test_journal_model <seed> runs one seed and prints its steps,
 *         ./test_journal_model <first> <last> many.
 *
 * links: journal os_sim base
 */
#include "base/log.h"
#include "base/rng.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"

#include "os/sim.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SEEDS = 300,
    STEPS = 120,
    SEQS_MAX = 40000,
    DEVICES = 40,
    PAYLOAD_MAX = 12000,
    VIEWS = 6,
};

static struct model {
    struct mr_rng rng;
    struct mr_journal *journal;
    struct mr_lane *lane;
    struct mr_reader *reader; /* reads for the cursor */
    struct mr_reader *guest;  /* has no cursor: may miss what was retired */
    struct mr_cursor *cursor;
    struct mr_view views[VIEWS];
    size_t view_count;
    uint32_t life;
    uint32_t life_of[SEQS_MAX];
    uint64_t next;         /* seq of the next append */
    uint64_t durable;      /* reported so far */
    uint64_t read_to;      /* the reader has checked everything up to here */
    uint64_t cursor_floor; /* surely on disk */
    uint64_t cursor_set;   /* latest value given */
    bool cursor_made;
    bool faults; /* may happen in this step */
    bool failed; /* the lane said so */
    int64_t now_ns;
    enum mr_err opened;
    struct mr_name_ref refs[DEVICES];
    uint8_t payload[PAYLOAD_MAX];
} *m;

static bool verbose;

static uint64_t below(uint64_t bound)
{
    return mr_rng_below(&m->rng, bound);
}

/* ---- content ---- */

static size_t payload_of(uint64_t seq, uint32_t life)
{
    uint64_t mix = (seq * 1000003 + life) * 0x9e3779b97f4a7c15ull;
    size_t len = 16 + mix % (mix % 37 == 0 ? PAYLOAD_MAX - 16 : 900);

    memset(m->payload, (int)(mix >> 56), len);
    memcpy(m->payload, &seq, sizeof(seq));
    memcpy(m->payload + 8, &life, sizeof(life));
    return len;
}

static void check_event(const struct mr_event *event)
{
    char client[32];
    size_t len;

    mr_assert(event->seq < m->next);
    len = payload_of(event->seq, m->life_of[event->seq]);
    snprintf(client, sizeof(client), "c%llu", (unsigned long long)(event->seq % DEVICES));
    mr_assert(mr_span_equal(event->payload, mr_span_make(m->payload, len)));
    mr_assert(mr_span_is(event->client, client));
    mr_assert(mr_span_is(event->topic, "t"));
}

/* ---- steps; each may be abandoned by a crash ---- */

static void check_lane(void)
{
    struct mr_lane_stats stats;
    uint64_t durable = mr_lane_durable(m->lane);

    mr_assert(durable >= m->durable && durable < m->next);
    mr_assert(!m->failed || durable == m->durable);
    m->durable = durable;
    m->failed = mr_lane_state(m->lane) == MR_LANE_FAILED;
    mr_assert(!m->failed || m->faults);
    mr_lane_stats(m->lane, &stats);
    mr_assert(stats.bytes_used <= stats.bytes_max);
    mr_assert(stats.seq_oldest <= m->cursor_set + 1);
}

static void step_append(void *arg)
{
    uint64_t count = 1 + below(60);

    (void)arg;
    for (uint64_t i = 0; i < count && m->next < SEQS_MAX - 1; i++) {
        char client[32];
        struct mr_appended out;
        uint64_t device = m->next % DEVICES;

        snprintf(client, sizeof(client), "c%llu", (unsigned long long)device);
        struct mr_record_raw record = {
            .type = MR_RECORD_EVENT,
            .received_us = (int64_t)m->next,
            .client = mr_span_of(client),
            .topic = mr_span_of("t"),
            .qos = 1,
        };
        record.payload = mr_span_make(m->payload, payload_of(m->next, m->life));
        enum mr_err err =
            mr_lane_append(m->lane, &record, below(2) == 0 ? NULL : &m->refs[device], &out);
        if (err != MR_OK) {
            mr_assert(err == MR_ERR_FULL || (err == MR_ERR_IO && m->failed));
            mr_assert(err == MR_ERR_IO || mr_lane_state(m->lane) != MR_LANE_OPEN);
            return;
        }
        mr_assert(out.seq == m->next);
        m->life_of[m->next] = m->life;
        m->next += 1;
    }
}

static void step_commit(void *arg)
{
    (void)arg;
    m->now_ns += (int64_t)below(2000000);
    (void)mr_lane_submit(m->lane, m->now_ns);
    if (below(4) != 0) {
        (void)mr_lane_step_commit(m->lane);
    }
    if (below(3) != 0) {
        mr_lane_release(m->lane, mr_lane_durable(m->lane));
    }
}

static void step_keeper(void *arg)
{
    (void)arg;
    mr_journal_step_keeper(m->journal);
    if (!m->faults && mr_lane_state(m->lane) != MR_LANE_FAILED) {
        m->cursor_floor = m->cursor_set;
    }
}

static void check_view(const struct mr_view *view)
{
    struct mr_view_at at = mr_view_begin(view);
    struct mr_event event;

    mr_assert(view->seq_last <= m->durable);
    for (uint64_t seq = view->seq_first; seq <= view->seq_last; seq++) {
        mr_assert(mr_view_event(view, &at, &event) && event.seq == seq);
        check_event(&event);
    }
    mr_assert(!mr_view_event(view, &at, &event));
}

static void step_read(void *arg)
{
    (void)arg;
    for (uint64_t count = below(8); count != 0; count--) {
        struct mr_view view;
        enum mr_err err = mr_reader_next(m->reader, &view);

        if (err != MR_OK) {
            mr_assert(err == MR_ERR_AGAIN || err == MR_ERR_FULL || (err == MR_ERR_IO && m->faults));
            mr_assert(err != MR_ERR_AGAIN || m->read_to == m->durable);
            return;
        }
        mr_assert(view.seq_first == m->read_to + 1);
        check_view(&view);
        m->read_to = view.seq_last;
        if (m->view_count < VIEWS && below(2) == 0) {
            m->views[m->view_count++] = view;
        } else {
            mr_view_unpin(&view);
        }
    }
}

/* Views that were pinned stay what they were. */
static void step_unpin(void *arg)
{
    (void)arg;
    while (m->view_count != 0 && below(4) != 0) {
        check_view(&m->views[m->view_count - 1]);
        mr_view_unpin(&m->views[--m->view_count]);
    }
}

static void step_guest(void *arg)
{
    (void)arg;
    for (uint64_t count = below(4); count != 0; count--) {
        struct mr_view view;
        uint64_t before = mr_reader_seq(m->guest);
        enum mr_err err = mr_reader_next(m->guest, &view);

        if (err != MR_OK) {
            mr_assert(err == MR_ERR_AGAIN || (err == MR_ERR_IO && m->faults));
            return;
        }
        mr_assert(view.seq_first >= before);
        check_view(&view);
        mr_view_unpin(&view);
    }
}

static void step_cursor(void *arg)
{
    (void)arg;
    uint64_t seq = m->cursor_set + below(m->read_to - m->cursor_set + 1);

    mr_cursor_set(m->cursor, seq);
    m->cursor_set = seq;
}

static void unpin_all(void)
{
    while (m->view_count != 0) {
        mr_view_unpin(&m->views[--m->view_count]);
    }
}

static void step_close(void *arg)
{
    (void)arg;
    unpin_all();
    mr_reader_close(m->reader);
    mr_reader_close(m->guest);
    struct mr_journal *journal = m->journal;
    m->journal = NULL;
    bool durable_all = mr_journal_close(journal) == MR_OK;
    if (durable_all) {
        m->durable = m->next - 1;
    }
    mr_assert(durable_all || m->faults || m->failed);
    if (!m->faults && durable_all) {
        m->cursor_floor = m->cursor_set;
    }
}

/* ---- a new life ---- */

static struct mr_journal_options options_of(void)
{
    return (struct mr_journal_options){
        .path = "/data/journal",
        .name = "model",
        .max_bytes = 5 * (64 << 10),
        .segment_bytes = 64 << 10,
        .block_bytes = 8192,
        .block_count = 12,
        .record_bytes_max = PAYLOAD_MAX + 64,
        .manual = true,
    };
}

static void step_open(void *arg)
{
    struct mr_journal_options options = options_of();
    struct mr_recovery recovery;
    struct mr_journal *journal;
    bool is_new = false;

    (void)arg;
    m->opened = mr_journal_open(&journal, &options, &recovery, NULL);
    if (m->opened != MR_OK) {
        mr_assert(m->faults);
        return;
    }
    mr_assert(recovery.corrupt_ranges == 0 && recovery.seqs_lost == 0);
    m->journal = journal;
    m->lane = mr_journal_lane(journal, 0);
    m->opened = mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &m->cursor, &is_new, NULL);
    if (m->opened != MR_OK) {
        mr_assert(m->faults);
        return;
    }
    mr_assert(is_new == !m->cursor_made || !m->cursor_made);
    m->cursor_made = true;
}

/* Everything that was durable is there, and nothing that was not appended. */
static void check_recovered(void)
{
    struct mr_reader_options options = {.pins_max = VIEWS + 2};
    struct mr_lane_stats stats;
    uint64_t cursor = mr_cursor_get(m->cursor);

    mr_lane_stats(m->lane, &stats);
    mr_assert(stats.seq_next > m->durable && stats.seq_next <= m->next);
    mr_assert(stats.durable_seq == stats.seq_next - 1);
    mr_assert(cursor >= m->cursor_floor && cursor <= m->cursor_set);
    mr_assert(stats.seq_oldest <= cursor + 1);
    m->next = stats.seq_next;
    m->durable = stats.durable_seq;
    m->cursor_floor = cursor;
    m->cursor_set = cursor;
    m->read_to = cursor;
    m->failed = false;
    m->view_count = 0;
    m->life += 1;
    mr_assert(mr_reader_open(&m->reader, m->journal, 0, cursor + 1, &options, NULL) == MR_OK);
    mr_assert(mr_reader_open(&m->guest, m->journal, 0, 1, NULL, NULL) == MR_OK);
}

static void inject_one(void)
{
    static const enum mr_sim_fault faults[] = {MR_SIM_FAULT_CRASH, MR_SIM_FAULT_CRASH,
                                               MR_SIM_FAULT_FULL, MR_SIM_FAULT_IO};
    enum mr_sim_call call = (enum mr_sim_call)below(MR_SIM_CALLS);
    enum mr_sim_fault fault = faults[below(MR_COUNT_OF(faults))];

    if (fault == MR_SIM_FAULT_FULL &&
        (call == MR_SIM_READ || call == MR_SIM_DIR_SYNC || call == MR_SIM_REMOVE)) {
        fault = MR_SIM_FAULT_IO;
    }
    mr_sim_inject(call, 1 + below(4), 1 + below(3), fault);
    m->faults = true;
}

/* Open until it succeeds; recovery itself is interrupted too. */
static void reopen(void)
{
    for (int attempt = 0;; attempt++) {
        mr_sim_inject_clear();
        m->faults = false;
        if (attempt < 3 && below(3) == 0) {
            inject_one();
        }
        m->journal = NULL;
        m->opened = MR_ERR_AGAIN;
        bool returned = mr_sim_run(step_open, NULL);
        mr_sim_inject_clear();
        if (!returned || (m->opened != MR_OK && m->journal != NULL)) {
            mr_sim_crash();
        } else if (m->opened == MR_OK) {
            break;
        }
        mr_assert(attempt < 10);
    }
    if (mr_lane_state(m->lane) == MR_LANE_FAILED) {
        mr_sim_crash();
        m->faults = false;
        reopen();
        return;
    }
    m->faults = false;
    check_recovered();
}

static void random_step(void)
{
    static void (*const steps[])(void *) = {
        step_append, step_append, step_append, step_append, step_commit, step_commit,
        step_commit, step_commit, step_keeper, step_keeper, step_read,   step_read,
        step_guest,  step_unpin,  step_cursor, step_cursor, step_close,
    };
    size_t step = (size_t)below(MR_COUNT_OF(steps));

    if (steps[step] == step_close && below(3) != 0) {
        step = 0;
    }
    if (below(12) == 0) {
        inject_one();
    }
    if (below(25) == 0) {
        mr_sim_disk_limit(below(2) == 0 ? 0 : 700000 + below(400000));
    }
    if (verbose) {
        printf("step %zu next %llu durable %llu cursor %llu%s\n", step, (unsigned long long)m->next,
               (unsigned long long)m->durable, (unsigned long long)m->cursor_set,
               m->faults ? " faults" : "");
    }
    bool crashed = !mr_sim_run(steps[step], NULL);
    if (crashed || below(60) == 0) {
        mr_sim_crash();
        m->journal = NULL;
    } else if (m->journal != NULL) {
        check_lane();
        if (m->failed && below(3) == 0) {
            mr_sim_crash();
            m->journal = NULL;
        }
    }
    if (m->journal == NULL) {
        mr_sim_disk_limit(0);
        reopen();
    }
    if (below(3) == 0) {
        mr_sim_inject_clear();
        m->faults = m->failed;
    }
}

/* When faults end and the bridge delivers, everything flows again. */
static void check_it_goes_on(void)
{
    mr_sim_inject_clear();
    mr_sim_disk_limit(0);
    m->faults = false;
    if (m->failed) {
        mr_sim_crash();
        reopen();
    }
    uint64_t goal = m->next + 100;
    for (int round = 0; m->durable < goal; round++) {
        mr_assert(round < 200);
        unpin_all();
        step_append(NULL);
        m->now_ns += 1000000;
        (void)mr_lane_submit(m->lane, m->now_ns);
        (void)mr_lane_step_commit(m->lane);
        check_lane();
        mr_lane_release(m->lane, m->durable);
        for (int i = 0; i < 10; i++) {
            step_read(NULL);
        }
        unpin_all();
        mr_cursor_set(m->cursor, m->read_to);
        m->cursor_set = m->read_to;
        step_keeper(NULL);
        check_lane();
    }
    step_close(NULL);
    reopen();
    while (m->read_to != m->durable) {
        step_read(NULL);
        unpin_all();
    }
    step_close(NULL);
}

static void run_seed(uint64_t seed)
{
    m = mr_alloc(sizeof(*m));
    mr_rng_seed(&m->rng, seed);
    m->next = 1;
    mr_sim_start(seed);
    reopen();
    for (int i = 0; i < STEPS; i++) {
        random_step();
    }
    check_it_goes_on();
    mr_sim_stop();
    mr_free(m);
}

int main(int argc, char **argv)
{
    uint64_t first = 1;
    uint64_t last = SEEDS;

    /* Each life of the journal takes large zeroed tables; fresh mappings are free of
     * charge until touched, recycled heap is not.
     */
    (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
    if (argc > 1) {
        first = strtoull(argv[1], NULL, 10);
        last = argc > 2 ? strtoull(argv[2], NULL, 10) : first;
        verbose = argc == 2;
    }
    if (!verbose) {
        mr_log_set_writer(drop_line);
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        if (!verbose) {
            printf("seed %llu\r", (unsigned long long)seed);
            fflush(stdout);
        }
        run_seed(seed);
    }
    printf("seeds %llu to %llu\n", (unsigned long long)first, (unsigned long long)last);
    return 0;
}
