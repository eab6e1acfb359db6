/* test_journal_calls.c
 * links: journal os_sim base
 *
 * Goal:   whichever call to the disk fails, once or from then on, with EIO or for want of room, and
 *         wherever the machine stops: nobody is told what is not so.  Whoever is refused gets a
 * code and a sentence that names the cause; a start behind it has every record that was durable, as
 * it was, no cursor that never was, and goes on. Method: one short life with everything in it
 * (segments that roll and go, cursors that are set, put back, passed on and forgotten, two
 * positions, another number of lanes, a reader), again and again on the simulated disk, with a
 * fault at its first call, its second, and so on.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/live.h"
#include "journal/ranges.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 2, SEGMENT = 64 << 10, PAYLOAD = 4000, ROUND = 20, KEPT = 6 };

static struct {
    struct mr_journal *journal;
    struct mr_cursor *bridge;
    struct mr_cursor *other;
    uint64_t appended[LANES];
    uint64_t durable[LANES]; /* what was said to be */
    uint64_t settled;        /* the highest that the bridge was ever set to */
    bool open;
} world;

static struct mr_journal_options options_of(uint32_t lanes)
{
    return (struct mr_journal_options){.path = "/j",
                                       .name = "calls",
                                       .lane_count_new = lanes,
                                       .lane_count = lanes,
                                       .max_bytes = LANES * 8 * SEGMENT,
                                       .segment_bytes = SEGMENT,
                                       .block_bytes = 16384,
                                       .block_count = 12,
                                       .record_bytes_max = 8000,
                                       .keep_ranges = true,
                                       .manual = true};
}

/* A refusal has a sentence. */
static bool fine(enum mr_err err, const struct mr_error *why)
{
    mr_assert(err == MR_OK || err == MR_ERR_IO || err == MR_ERR_FULL || err == MR_ERR_AGAIN);
    mr_assert(err == MR_OK || why == NULL || why->text[0] != '\0');
    return err == MR_OK;
}

static bool take(uint32_t lanes, struct mr_recovery *recovery)
{
    const struct mr_journal_options options = options_of(lanes);
    struct mr_error why = {.text = ""};

    world.open = fine(mr_journal_open(&world.journal, &options, recovery, &why), &why);
    return world.open;
}

static void give(void)
{
    if (world.open) {
        (void)fine(mr_journal_close(world.journal), NULL);
        world.open = false;
    }
}

/* ---- records: functions of their lane and seq ---- */

static void payload_of(uint32_t lane, uint64_t seq, uint8_t out[PAYLOAD])
{
    memset(out, (int)(lane * 100 + seq % 100), PAYLOAD);
    memcpy(out, &seq, sizeof(seq));
}

static void note_durable(uint32_t lane)
{
    uint64_t durable = mr_lane_durable(mr_journal_lane(world.journal, lane));

    if (durable > world.durable[lane]) {
        world.durable[lane] = durable;
    }
}

static bool has_failed(uint32_t lane)
{
    return mr_lane_state(mr_journal_lane(world.journal, lane)) == MR_LANE_FAILED;
}

/* As many more as there is room for, of ROUND; committed, if the disk takes them. */
static void append_some(uint32_t lane_index)
{
    struct mr_lane *lane = mr_journal_lane(world.journal, lane_index);
    uint8_t payload[PAYLOAD];
    struct mr_appended out = {.seq = 0};
    static int64_t now_ns;

    for (int i = 0; i < ROUND; i++) {
        payload_of(lane_index, mr_lane_next_seq(lane), payload);
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, PAYLOAD)};
        if (fine(mr_lane_append(lane, &record, NULL, &out), NULL)) {
            world.appended[lane_index] = out.seq;
        }
        now_ns += 1000000000;
        (void)mr_lane_submit(lane, now_ns);
        (void)mr_lane_step_commit(lane);
        note_durable(lane_index);
        mr_lane_release(lane, mr_lane_durable(lane));
        mr_journal_step_keeper(world.journal);
    }
    if (has_failed(lane_index)) {
        mr_assert(strlen(mr_lane_state_text(lane)) > 20);
    }
}

/* All that there is of `lane`, as it was appended; false: the disk did not let us. */
static bool read_all(uint32_t lane_index)
{
    struct mr_lane *lane = mr_journal_lane(world.journal, lane_index);
    struct mr_lane_stats stats;
    struct mr_reader *reader = NULL;
    struct mr_error why = {.text = ""};
    struct mr_view view;
    uint8_t payload[PAYLOAD];
    enum mr_err err = MR_OK;

    mr_lane_stats(lane, &stats);
    uint64_t seq = stats.seq_oldest == 0 ? 1 : stats.seq_oldest;
    if (!fine(mr_reader_open(&reader, world.journal, lane_index, seq, NULL, &why), &why)) {
        return false;
    }
    while (seq <= stats.durable_seq && err == MR_OK) {
        struct mr_view_at at;
        struct mr_event event;

        err = mr_reader_next(reader, &view);
        if (!fine(err, NULL)) {
            break;
        }
        at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            payload_of(lane_index, event.seq, payload);
            mr_assert(event.seq == seq && mr_span_is(event.client, "c"));
            mr_assert(mr_span_equal(event.payload, mr_span_make(payload, PAYLOAD)));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    return err == MR_OK;
}

/* ---- the life ---- */

static bool cursor_take(const char *name, struct mr_cursor **out)
{
    struct mr_error why = {.text = ""};
    bool is_new;

    return fine(mr_cursor_open(world.journal, name, 0, MR_START_OLDEST, out, &is_new, &why), &why);
}

static void settle(uint64_t seq)
{
    if (seq <= world.durable[0] && seq > mr_cursor_get(world.bridge)) {
        mr_cursor_set(world.bridge, seq);
        world.settled = seq > world.settled ? seq : world.settled;
    }
    mr_journal_step_keeper(world.journal);
}

static void move_about(void)
{
    uint64_t at = mr_cursor_get(world.bridge);
    struct mr_cursor *live = NULL;
    struct mr_error why = {.text = ""};

    if (at < 3 || has_failed(0)) {
        return;
    }
    (void)fine(mr_cursor_put(world.bridge, at - 2, MR_CURSOR_FOLLOWS), NULL);
    at = mr_cursor_get(world.bridge);
    (void)fine(mr_cursor_put(world.bridge, at + 1, MR_CURSOR_LEADS), NULL);
    (void)fine(mr_cursor_lose(world.bridge, at - 1, mr_cursor_get(world.bridge)), NULL);
    world.settled = world.durable[0]; /* where the two become one */
    if (fine(mr_cursor_live_begin(world.bridge, world.durable[0], &live, &why), &why)) {
        (void)fine(mr_cursor_live_end(world.bridge, world.durable[0], MR_CURSOR_LEADS), NULL);
    }
    (void)fine(mr_cursor_pause(world.journal, "bridge", true), NULL);
    (void)fine(mr_cursor_pause(world.journal, "bridge", false), NULL);
}

static void live_once(void)
{
    if (!take(1, NULL) || !cursor_take("bridge", &world.bridge) ||
        !cursor_take("other", &world.other)) {
        give();
        return;
    }
    append_some(0);
    settle(world.durable[0] / 2);
    mr_cursor_set(world.other, mr_cursor_get(world.bridge));
    move_about();
    mr_cursor_close(world.other);
    (void)fine(mr_cursor_forget(world.journal, "other"), NULL);
    append_some(0);
    settle(world.durable[0] > KEPT ? world.durable[0] - KEPT : 0);
    (void)read_all(0);
    append_some(0);
    mr_cursor_close(world.bridge);
    give();
    if (!take(2, NULL)) {
        return;
    }
    struct mr_error why = {.text = ""};
    (void)fine(mr_cursors_follow(world.journal, &why), &why);
    append_some(1);
    append_some(0);
    (void)read_all(0);
    give();
}

/* ---- what must be there behind it ---- */

static void look(void)
{
    struct mr_recovery recovery = {.seqs_lost = 1};

    mr_sim_inject_clear();
    mr_assert(take(0, &recovery));
    mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
    for (uint32_t lane = 0; lane < mr_journal_lane_total(world.journal); lane++) {
        uint64_t durable = mr_lane_durable(mr_journal_lane(world.journal, lane));
        mr_assert(durable >= world.durable[lane] && durable <= world.appended[lane]);
        mr_assert(read_all(lane));
    }
    mr_assert(mr_journal_lane_total(world.journal) == LANES || world.durable[1] == 0);
    if (cursor_take("bridge", &world.bridge)) {
        mr_assert(mr_cursor_get(world.bridge) <= world.settled);
        mr_cursor_close(world.bridge);
    }
    uint64_t before = world.durable[0];
    append_some(0);
    mr_assert(world.durable[0] > before);
    mr_assert(mr_journal_close(world.journal) == MR_OK);
    world.open = false;
}

static void live_stopped(void *arg)
{
    (void)arg;
    live_once();
}

/* False: the life makes no `nth` call. */
static bool live_with(uint64_t nth, uint64_t count, enum mr_sim_fault fault)
{
    mr_sim_start(nth);
    memset(&world, 0, sizeof(world));
    mr_sim_inject(MR_SIM_ANY, nth, count, fault);
    (void)mr_sim_run(live_stopped, NULL);
    bool met = mr_sim_calls(MR_SIM_ANY) >= nth;
    look();
    mr_sim_stop();
    return met;
}

static const struct {
    uint64_t count; /* 0: from then on */
    enum mr_sim_fault fault;
} faults[] = {
    {1, MR_SIM_FAULT_CRASH}, {1, MR_SIM_FAULT_FULL}, {0, MR_SIM_FAULT_FULL},
    {1, MR_SIM_FAULT_IO},    {0, MR_SIM_FAULT_IO},
};

/* One of them at each call; all of them with "all", or at the call that is given. */
int main(int argc, char **argv)
{
    uint64_t only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t nth = only == 0 ? 1 : only;
    bool met = true;

    mr_log_set_writer(drop_line);
    while (met && (only == 0 || nth == only)) {
        for (size_t i = 0; i < MR_COUNT_OF(faults); i++) {
            if (argc > 1 || nth % MR_COUNT_OF(faults) == i) {
                met = live_with(nth, faults[i].count, faults[i].fault);
            }
        }
        nth += met;
    }
    printf("%llu calls\n", (unsigned long long)nth);
    mr_assert(only != 0 || nth > 200);
    return 0;
}
