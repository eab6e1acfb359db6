/* test_pipeline_disk_full.c
 * links: pipeline journal codec config os_sim base
 *
 * Goal:   no bridge ends for want of room on the disk of the journal: where its cursor has to be
 *         written before it may go on, it waits, says so once with cause and next step, tries again
 *         once a second, and loses, doubles and reorders nothing; a seek is told, and changes
 * nothing. Method: a bridge that is stepped by hand, and a simulated disk that refuses every write,
 * while one of those writes is due; its log is looked through.  The target is the scripted sink, or
 *         the vault that keeps a position.
 */
#include "base/log.h"
#include "journal/books.h"
#include "pipeline_sim.h"
#include "vault_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST = 300, ALL = 600, LIVE_LEAST = 100, TURNS = 1000000 };

static struct scripted_conf conf = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static const char *filters[] = {"sensors/+/+"}; /* what has a destination: no dead letters */
static struct mr_bridge_conf conf_here;
static struct mr_bridge *bridge;
static int64_t now_ns; /* the bridge's time */
static struct {
    unsigned waits; /* lines that say that it waits, and for what */
    unsigned found;
    char text[512];
} heard;

static void on_line(const char *line, size_t len)
{
    static const char waits[] = "make room on it";
    static const char found[] = "there is room on the disk again";

    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
    if (memmem(line, len, waits, sizeof(waits) - 1) != NULL) {
        heard.waits += 1;
        snprintf(heard.text, sizeof(heard.text), "%.*s", (int)len, line);
    }
    heard.found += memmem(line, len, found, sizeof(found) - 1) != NULL;
}

static void begin(const struct mr_sink_ops *ops, enum mr_drain drain)
{
    mr_sim_start(1);
    vault_empty();
    memset(delivered, 0, sizeof(delivered));
    memset(backfilled, 0, sizeof(backfilled));
    memset(newest_of, 0, sizeof(newest_of));
    memset(&heard, 0, sizeof(heard));
    sink_ops = ops;
    conf_here = bridge_conf;
    conf_here.from.items = filters;
    conf_here.drain = drain;
    conf_here.live_after_us = 1000000;
    conf_here.live_least = LIVE_LEAST;
    conf_now = &conf_here;
    journal_take();
    append(1, FIRST);
}

/* ---- the bridge ---- */

static struct mr_bridge_stats step(void)
{
    return bridge_turn(bridge, &now_ns);
}

static struct mr_bridge_stats run_to(uint64_t seq)
{
    struct mr_bridge_stats stats = step();

    for (uint64_t turns = 0; stats.cursor_seq < seq || stats.live.open; turns++) {
        mr_assert(turns < TURNS);
        stats = step();
    }
    return stats;
}

static void no_room(bool none)
{
    mr_sim_inject_clear();
    if (none) {
        mr_sim_inject(MR_SIM_WRITE, 1, 0, MR_SIM_FAULT_FULL);
    }
}

/* For ten seconds of its time it waits, and tries about once in each; the log has it once. */
static void wait_without_room(const char *what)
{
    heard.waits = 0;
    for (uint64_t turns = 0; heard.waits == 0; turns++) {
        (void)step();
        mr_assert(turns < TURNS);
    }
    mr_assert(strstr(heard.text, what) != NULL && strstr(heard.text, "disk") != NULL);
    uint64_t tries = mr_sim_calls(MR_SIM_WRITE);
    int64_t until_ns = now_ns + (int64_t)10 * 1000000000;
    while (now_ns < until_ns) {
        (void)step();
    }
    tries = mr_sim_calls(MR_SIM_WRITE) - tries;
    mr_assert(heard.waits == 1 && heard.found == 0);
    mr_assert(tries >= 8 && tries <= 11);
}

static void end(void)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* Each of these has come, marked as of a backlog or not. */
static void check_delivered(uint64_t from, uint64_t to, bool backfill)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND));
        mr_assert(!delivered[seq] || backfilled[seq] == backfill);
    }
}

/* ---- drain: live_first ---- */

/* There is none for a second position: it stays one until there is. */
static void test_begins_when_there_is_room(void)
{
    begin(&scripted_sink, MR_DRAIN_LIVE_FIRST);
    bridge = bridge_make(journal, &conf);
    no_room(true);
    conf.full_percent = 100; /* what waits goes on waiting */
    wait_without_room("delivers fresh events first");
    mr_assert(!step().live.open);
    no_room(false);
    for (uint64_t turns = 0; !step().live.open; turns++) {
        mr_assert(turns < TURNS);
    }
    mr_assert(heard.found == 1);
    append(FIRST + 1, ALL);
    conf.full_percent = 0;
    (void)run_to(ALL);
    check_delivered(1, FIRST, true);
    check_delivered(FIRST + 1, ALL, false);
    end();
}

/* It is not two for ever because there was none when the backlog was through. */
static void test_ends_when_there_is_room(void)
{
    begin(&scripted_sink, MR_DRAIN_LIVE_FIRST);
    bridge = bridge_make(journal, &conf);
    conf.full_percent = 100;
    for (uint64_t turns = 0; !step().live.open; turns++) {
        mr_assert(turns < TURNS);
    }
    conf.full_percent = 0;
    append(FIRST + 1, ALL - 1);
    no_room(true);
    wait_without_room("goes on in one place");
    mr_assert(step().live.open);
    check_delivered(1, FIRST, true);
    no_room(false);
    append(ALL, ALL);
    (void)run_to(ALL);
    mr_assert(heard.found == 1);
    check_delivered(FIRST + 1, ALL, false);
    end();
}

/* ---- targets that keep a position ---- */

static void check_copies(uint64_t from, uint64_t to)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        mr_assert(copies[seq] == (fate_of(seq) == FATE_SEND));
    }
}

/* The target agrees where it goes on; nothing is offered before the cursor follows. */
static void test_follows_when_there_is_room(void)
{
    begin(&vault_sink, MR_DRAIN_ORDERED);
    bridge = bridge_make(journal, &conf);
    no_room(true);
    wait_without_room("goes on");
    mr_assert(step().cursor_seq == 0 && places == 1 && commits == 0);
    no_room(false);
    (void)run_to(FIRST);
    mr_assert(heard.found == 1 && places == 1);
    check_copies(1, FIRST);
    end();
}

static void restart(const struct mr_sink_ops *ops)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    sink_ops = ops;
    bridge = bridge_make(journal, &conf);
}

/* The target has lost some of what it had confirmed. */
static void test_goes_back_when_there_is_room(void)
{
    begin(&vault_sink, MR_DRAIN_ORDERED);
    bridge = bridge_make(journal, &conf);
    (void)run_to(FIRST);
    vaulted[0].seq = FIRST / 2;
    memset(copies + FIRST / 2 + 1, 0, FIRST / 2);
    restart(&vault_sink);
    no_room(true);
    wait_without_room("goes on where its target is");
    mr_assert(step().cursor_seq == FIRST);
    no_room(false);
    append(FIRST + 1, ALL);
    (void)run_to(ALL);
    mr_assert(heard.found == 1);
    check_copies(1, ALL);
    end();
}

/* It will deliver at least once: the position that the target has must not count any more. */
static void test_leaves_a_position_when_there_is_room(void)
{
    begin(&vault_sink, MR_DRAIN_ORDERED);
    bridge = bridge_make(journal, &conf);
    (void)run_to(FIRST);
    append(FIRST + 1, ALL);
    restart(&scripted_sink);
    no_room(true);
    wait_without_room("goes on");
    mr_assert(step().cursor_seq == FIRST && !delivered[FIRST + 1] && !delivered[FIRST + 2]);
    no_room(false);
    (void)run_to(ALL);
    mr_assert(heard.found == 1);
    check_delivered(1, ALL, false);
    end();
}

/* ---- seeks ---- */

static struct asking asking;

static enum mr_err seek(uint64_t to)
{
    struct mr_thread *thread = NULL;

    asking = (struct asking){.bridge = bridge, .to = to};
    mr_assert(mr_thread_start(&thread, "asker", ask, &asking, NULL) == MR_OK);
    for (uint64_t turns = 0; !atomic_load(&asking.over); turns++) {
        mr_assert(turns < TURNS);
        (void)mr_sim_turn();
        (void)step();
    }
    mr_thread_join(thread);
    return asking.err;
}

/* The operator is told, and the bridge goes on where it was, in the one place or in both. */
static void test_a_seek_without_room_changes_nothing(enum mr_drain drain)
{
    begin(&scripted_sink, drain);
    bridge = bridge_make(journal, &conf);
    conf.full_percent = drain == MR_DRAIN_LIVE_FIRST ? 100 : 0;
    for (uint64_t turns = 0; drain == MR_DRAIN_LIVE_FIRST && !step().live.open; turns++) {
        mr_assert(turns < TURNS);
    }
    (void)step();
    no_room(true);
    mr_assert(seek(1) == MR_ERR_FULL);
    no_room(false);
    conf.full_percent = 0;
    append(FIRST + 1, ALL);
    (void)run_to(ALL);
    check_delivered(FIRST + 1, ALL, false);
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    mr_assert(seek(FIRST) == MR_OK);
    (void)run_to(ALL);
    mr_assert(!delivered[FIRST]);
    check_delivered(FIRST + 1, ALL, drain == MR_DRAIN_LIVE_FIRST);
    end();
}

int main(void)
{
    mr_log_set_writer(on_line);
    vault_make();
    test_begins_when_there_is_room();
    test_ends_when_there_is_room();
    test_follows_when_there_is_room();
    test_goes_back_when_there_is_room();
    test_leaves_a_position_when_there_is_room();
    test_a_seek_without_room_changes_nothing(MR_DRAIN_ORDERED);
    test_a_seek_without_room_changes_nothing(MR_DRAIN_LIVE_FIRST);
    return 0;
}
