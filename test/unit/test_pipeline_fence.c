/* test_pipeline_fence.c
 * links: pipeline journal codec config os base
 *
 * Goal:   a seek that ends a second position (drain: live_first) leaves nothing of it under way at
 *         a target that keeps a position: before anything is delivered behind the new place the
 *         target has ended the transaction whose answer was not there yet.  However the seek
 *         comes: to a bridge that runs, to one that has just been started, to a gateway that is
 *         not running; through a second restart, and one that wants the events in order.
 * Method: a vault whose transaction of fresh events lingers until its stream is opened anew, and
 *         that refuses to be told a position before (vault_sink.h).  Workers stepped by hand.
 */
#include "base/log.h"
#include "os/clock.h"
#include "vault_sink.h"

#include <stdio.h>
#include <stdlib.h>

static const struct scripted_conf plain = {.topic = "t_${topic[2]}", .key = "${clientid}"};
static struct mr_bridge_conf live_conf; /* of the bridges made */
static int64_t now_ns;                  /* their time */

enum { BACKLOG = 2000, FRESH = 2100, NEWEST = 2200, PLACE = 1500 };

static struct mr_bridge_stats step(struct mr_bridge *bridge)
{
    memset(newest_of, 0, sizeof(newest_of)); /* a seek: what was passed over comes again */
    return bridge_turn(bridge, &now_ns);
}

static void turn(struct mr_bridge *bridge)
{
    (void)step(bridge);
}

static void end(struct mr_bridge *bridge)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

/* The backlog is on its way, fresh events are delivered, and the newest of them linger. */
static struct mr_bridge *begin(struct mr_journal **journal)
{
    live_conf = bridge_conf;
    conf_now = &live_conf;
    live_conf.drain = MR_DRAIN_LIVE_FIRST;
    live_conf.live_after_us = 60 * 1000000; /* the events are years old */
    live_conf.backfill_rate = 1000;
    vault_empty();
    *journal = journal_make();
    append_all(mr_journal_lane(*journal, 0), 1, BACKLOG);
    struct mr_bridge *bridge = bridge_make(*journal, &plain);
    while (!step(bridge).live.open) {
    }
    append_all(mr_journal_lane(*journal, 0), BACKLOG + 1, FRESH);
    while (step(bridge).live.seq < FRESH) {
    }
    lingering.wanted = true;
    lingering.sought = PLACE;
    append_all(mr_journal_lane(*journal, 0), FRESH + 1, NEWEST);
    while (!lingering.is_under_way) {
        turn(bridge);
    }
    live_conf.live_after_us = (uint64_t)100 * 365 * 86400 * 1000000; /* not once more */
    return bridge;
}

/* Stopped, as a crash would leave it: nobody hears of the transaction. */
static struct mr_bridge *again(struct mr_bridge *bridge, struct mr_journal *journal)
{
    end(bridge);
    return bridge_make(journal, &plain);
}

static void seek_offline(struct mr_journal *journal)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, &why) == MR_OK);
    mr_assert(mr_cursor_seek(cursor, PLACE) == MR_OK);
    mr_cursor_close(cursor);
}

/* All comes behind the place; what lingered has come once before that, and not behind. */
static void finish(struct mr_bridge *bridge, struct mr_journal *journal)
{
    while (step(bridge).cursor_seq < NEWEST) {
    }
    mr_assert(!lingering.is_under_way);
    for (uint64_t seq = 1; seq <= NEWEST; seq++) {
        uint8_t least = fate_of(seq) == FATE_SEND ? 1 : 0;
        uint8_t most = seq > PLACE && least != 0 ? 2 : least;
        mr_assert(copies[seq] <= most && (seq <= BACKLOG || copies[seq] == most));
    }
    end(bridge);
    journal_remove(journal);
}

static void test_a_seek_of_one_that_runs(void)
{
    struct mr_journal *journal;
    struct mr_bridge *bridge = begin(&journal);

    seek_running(bridge, PLACE, turn);
    finish(bridge, journal);
}

static void test_a_seek_before_the_target_was_asked(void)
{
    struct mr_journal *journal;
    struct mr_bridge *bridge = begin(&journal);

    is_silent = true;
    bridge = again(bridge, journal);
    seek_running(bridge, PLACE, turn);
    for (int i = 0; i < 100; i++) {
        turn(bridge);
    }
    mr_assert(lingering.is_under_way);
    is_silent = false;
    finish(bridge, journal);
}

static void test_a_seek_without_the_gateway(void)
{
    struct mr_journal *journal;
    struct mr_bridge *bridge = begin(&journal);

    end(bridge);
    seek_offline(journal);
    finish(bridge_make(journal, &plain), journal);
}

/* The first life behind the seek ends before the target has said anything. */
static void test_restarts_behind_the_seek(enum mr_drain drain)
{
    struct mr_journal *journal;
    struct mr_bridge *bridge = begin(&journal);

    is_silent = true;
    bridge = again(bridge, journal);
    seek_running(bridge, PLACE, turn);
    mr_assert(lingering.is_under_way);
    live_conf.drain = drain;
    bridge = again(bridge, journal);
    is_silent = false;
    finish(bridge, journal);
}

int main(void)
{
    struct mr_error why;

    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    now_ns = mr_clock_mono_ns();
    journal_keep_us = (uint64_t)3600 * 1000000;
    vault_make();
    test_a_seek_of_one_that_runs();
    test_a_seek_before_the_target_was_asked();
    test_a_seek_without_the_gateway();
    test_restarts_behind_the_seek(MR_DRAIN_LIVE_FIRST);
    test_restarts_behind_the_seek(MR_DRAIN_ORDERED);
    mr_wake_close(&owner);
    return 0;
}
