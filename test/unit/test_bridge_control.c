/* test_bridge_control.c
 * links: pipeline journal codec config os base
 *
 * Goal:   a paused bridge delivers nothing, keeps its place through a restart and goes on
 *         when it is resumed; a seek repeats or passes over exactly what it says, also
 *         when the target holds records and never answers, and doubles no dead letter.
 *         Who asks for a number is answered beside a call that waits for the disk.
 * Method: real bridges with their threads and a real journal, against the scripted sink.
 */
#include "base/log.h"
#include "base/text.h"
#include "journal/scan.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/thread.h"
#include "pipeline_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- helpers ---- */

static const struct scripted_conf plain = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static void bridge_begin(struct mr_bridge *bridge)
{
    struct mr_error why;

    mr_assert(mr_bridge_start(bridge, &why) == MR_OK);
}

static void bridge_end(struct mr_bridge *bridge)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

static struct mr_bridge_stats stats_of(struct mr_bridge *bridge)
{
    struct mr_bridge_stats stats;

    mr_bridge_stats(bridge, &stats);
    return stats;
}

/* Until the cursor is at `seq`. */
static void wait_cursor(struct mr_bridge *bridge, uint64_t seq)
{
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)60 * 1000000000;

    while (stats_of(bridge).cursor_seq != seq) {
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_bridge_nudge(bridge); /* this sink does something at each tick, and rings nobody */
        mr_wake_wait(&owner, 100000);
    }
}

static uint64_t delivered_count(uint64_t from, uint64_t to)
{
    uint64_t count = 0;

    for (uint64_t seq = from; seq <= to; seq++) {
        count += delivered[seq];
    }
    return count;
}

static uint64_t expected_count(uint64_t from, uint64_t to, bool dead)
{
    uint64_t count = 0;

    for (uint64_t seq = from; seq <= to; seq++) {
        count += dead ? is_dead(seq) : fate_of(seq) == FATE_SEND;
    }
    return count;
}

/* Letters on disk; each event has at most one. */
static uint64_t letters_count(void)
{
    static uint8_t found[EVENTS * 2 + 1];
    struct mr_journal_options options = {.path = dead_path, .name = "dead", .read_only = true};
    struct mr_journal *journal = NULL;
    struct mr_reader *reader = NULL;
    struct mr_recovery recovery;
    struct mr_view view;
    struct mr_error why;
    uint64_t count = 0;

    memset(found, 0, sizeof(found));
    mr_assert(mr_journal_open(&journal, &options, &recovery, &why) == MR_OK);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, &why) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event event;
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(!found[event.raw.dead_seq]);
            found[event.raw.dead_seq] = 1;
            count += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
    return count;
}

static void a_paused_bridge_keeps_its_place_through_a_restart(void)
{
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge = bridge_make(journal, &plain);

    bridge_begin(bridge);
    append_all(mr_journal_lane(journal, 0), 1, 500);
    wait_cursor(bridge, 500);
    mr_assert(mr_cursor_pause(journal, "nobody", true) == MR_ERR_REJECT);
    mr_assert(mr_cursor_pause(journal, "test", true) == MR_OK);
    mr_bridge_nudge(bridge);
    append_all(mr_journal_lane(journal, 0), 501, 1000);
    mr_assert(stats_of(bridge).state == MR_BRIDGE_PAUSED);
    bridge_end(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open();
    bridge = bridge_make(journal, &plain);
    bridge_begin(bridge);
    append_all(mr_journal_lane(journal, 0), 1001, 1200);
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)60 * 1000000000;
    while (stats_of(bridge).lag_s == 0) { /* it has looked at what waits, and at no more */
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_wake_wait(&owner, 1000000);
    }
    struct mr_bridge_stats stats = stats_of(bridge);
    mr_assert(stats.state == MR_BRIDGE_PAUSED && stats.cursor_seq == 500);
    mr_assert(stats.lag_records == 700 && stats.lag_bytes > 0 && stats.inflight == 0);
    mr_assert(delivered_count(501, 1200) == 0);

    mr_assert(mr_cursor_pause(journal, "test", false) == MR_OK);
    mr_bridge_nudge(bridge);
    wait_cursor(bridge, 1200);
    mr_assert(stats_of(bridge).state == MR_BRIDGE_UP);
    mr_assert(delivered_count(1, 1200) == expected_count(1, 1200, false));
    bridge_end(bridge);
    journal_remove(journal);
}

static void a_seek_back_repeats_all_behind_it_and_no_dead_letter(void)
{
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge;
    struct mr_error why;
    uint64_t now_at = 0;

    with_faults = true;
    append_all(mr_journal_lane(journal, 0), 1, 2000);
    bridge = bridge_make(journal, &plain);
    bridge_begin(bridge);
    wait_cursor(bridge, 2000);
    uint64_t before = stats_of(bridge).delivered;
    mr_assert(mr_bridge_seek(bridge, 700, &now_at, &why) == MR_OK && now_at == 700);
    wait_cursor(bridge, 2000);
    mr_assert(stats_of(bridge).delivered - before == expected_count(701, 2000, false));
    mr_assert(mr_bridge_seek(bridge, 2001, &now_at, &why) == MR_ERR_REJECT);
    bridge_end(bridge);
    mr_assert(letters_count() == expected_count(1, 2000, true));
    with_faults = false;
    journal_remove(journal);
}

/* What the target holds without an answer is taken back. */
static void a_seek_forward_passes_over_even_what_is_in_flight(void)
{
    struct scripted_conf conf = plain;
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge;
    struct mr_error why;
    uint64_t now_at = 0;

    conf.hold = true;
    append_all(mr_journal_lane(journal, 0), 1, 1000);
    bridge = bridge_make(journal, &conf);
    bridge_begin(bridge);
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)60 * 1000000000;
    while (stats_of(bridge).inflight == 0) {
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_wake_wait(&owner, 1000000);
    }
    mr_assert(mr_bridge_seek(bridge, 1000, &now_at, &why) == MR_OK && now_at == 1000);
    mr_assert(stats_of(bridge).cursor_seq == 1000 && delivered_count(1, 1000) == 0);
    bridge_end(bridge);

    conf.hold = false;
    bridge = bridge_make(journal, &conf);
    bridge_begin(bridge);
    append_all(mr_journal_lane(journal, 0), 1001, 1100);
    wait_cursor(bridge, 1100);
    mr_assert(delivered_count(1, 1100) == expected_count(1001, 1100, false));
    bridge_end(bridge);
    journal_remove(journal);
}

static _Atomic bool said_no_room;

static void look_for_no_room(const char *line, size_t len)
{
    static const char text[] = "no room for dead letters";

    (void)fwrite(line, 1, len, stderr);
    if (memmem(line, len, text, sizeof(text) - 1) != NULL) {
        atomic_store(&said_no_room, true);
    }
}

/* A rejected record whose letter has no place yet lies in a span that the seek forgets. */
static void a_seek_forgets_what_was_rejected_without_a_place(void)
{
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge;
    struct mr_file lock;
    struct mr_error why;
    uint64_t now_at = 0;
    uint64_t end = 1;

    while (!is_dead(end + 1)) { /* no other event needs the dead letters */
        end += 1;
    }
    for (seq_to_reject = end; fate_of(seq_to_reject) == FATE_SKIP; seq_to_reject--) {
    }
    mr_assert(mr_dir_create(dead_path, &why) == MR_OK);
    mr_assert(mr_dir_lock(dead_path, &lock, &why) == MR_OK); /* somebody has them */
    append_all(mr_journal_lane(journal, 0), 1, end);
    mr_log_set_writer(look_for_no_room);
    bridge = bridge_make(journal, &plain);
    bridge_begin(bridge);
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)60 * 1000000000;
    while (!atomic_load(&said_no_room)) {
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_bridge_nudge(bridge);
        mr_wake_wait(&owner, 1000000);
    }
    mr_assert(mr_bridge_seek(bridge, 0, &now_at, &why) == MR_OK && now_at == 0);
    mr_file_close(&lock);
    wait_cursor(bridge, end);
    bridge_end(bridge);
    mr_log_set_writer(NULL);
    mr_assert(letters_count() == 1);
    seq_to_reject = 0;
    journal_remove(journal);
}

/* It moves, and stays where it is. */
static void a_paused_bridge_can_seek(void)
{
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    struct mr_error why;
    uint64_t now_at = 0;

    bridge_begin(bridge);
    append_all(mr_journal_lane(journal, 0), 1, 300);
    wait_cursor(bridge, 300);
    uint64_t before = stats_of(bridge).delivered;
    mr_assert(mr_cursor_pause(journal, "test", true) == MR_OK);
    mr_assert(mr_bridge_seek(bridge, 100, &now_at, &why) == MR_OK && now_at == 100);
    mr_assert(stats_of(bridge).cursor_seq == 100 && stats_of(bridge).state == MR_BRIDGE_PAUSED);
    mr_assert(mr_cursor_pause(journal, "test", false) == MR_OK);
    mr_bridge_nudge(bridge);
    wait_cursor(bridge, 300);
    mr_assert(stats_of(bridge).delivered - before == expected_count(101, 300, false));
    bridge_end(bridge);
    journal_remove(journal);
}

enum { PARTITIONS = 7, NOTES = 100 };

static uint32_t partitions_of(const void *state, const char *name)
{
    (void)state;
    (void)name;
    return PARTITIONS;
}

struct noting {
    struct mr_bridge *bridge;
    _Atomic uint32_t count;
};

/* Each waits for a flush of the dead letters. */
static void note(void *arg)
{
    struct noting *noting = arg;
    struct mr_error why;

    for (uint32_t i = 0; i < NOTES; i++) {
        mr_assert(mr_bridge_letters_retry(noting->bridge, NULL, 0, 0, 0, &why) == MR_OK);
        atomic_fetch_add(&noting->count, 1);
        mr_wake_ring(&owner);
    }
}

struct asking {
    struct mr_bridge *bridge;
    _Atomic uint32_t count;
    _Atomic bool enough;
};

static void ask(void *arg)
{
    struct asking *asking = arg;

    while (!atomic_load(&asking->enough)) {
        mr_assert(mr_bridge_partitions(asking->bridge, "t") == PARTITIONS);
        atomic_fetch_add(&asking->count, 1);
    }
}

/* Each gets its own answer, and none is forgotten. */
static void several_threads_may_ask_a_bridge(void)
{
    struct mr_sink_ops ops = scripted_sink;
    struct mr_journal *journal = journal_make();
    struct mr_thread *threads[2];
    struct mr_error why;

    ops.partitions = partitions_of;
    sink_ops = &ops;
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    struct noting noting = {.bridge = bridge};
    struct asking asking = {.bridge = bridge};
    bridge_begin(bridge);
    mr_assert(mr_thread_start(&threads[0], "note", note, &noting, &why) == MR_OK);
    mr_assert(mr_thread_start(&threads[1], "ask", ask, &asking, &why) == MR_OK);
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)60 * 1000000000;
    while (atomic_load(&noting.count) != NOTES) {
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_wake_wait(&owner, 100000000);
    }
    atomic_store(&asking.enough, true);
    mr_thread_join(threads[0]);
    mr_thread_join(threads[1]);
    mr_assert(atomic_load(&asking.count) != 0);
    bridge_end(bridge);
    sink_ops = &scripted_sink;
    journal_remove(journal);
}

int main(void)
{
    struct mr_error why;

    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    die_seed = 7;
    journal_keep_us = 3600000000;
    a_paused_bridge_keeps_its_place_through_a_restart();
    a_seek_back_repeats_all_behind_it_and_no_dead_letter();
    a_seek_forward_passes_over_even_what_is_in_flight();
    a_seek_forgets_what_was_rejected_without_a_place();
    a_paused_bridge_can_seek();
    several_threads_may_ask_a_bridge();
    mr_wake_close(&owner);
    return 0;
}
