/* test_pipeline.c
 * links: pipeline journal codec config os base
 *
 * Goal:   whatever a target does, every event is settled exactly once: delivered,
 *         skipped or a dead letter; the cursor never passes one that is not; the
 *         first deliveries of a device are in its order.
 * Method: a sink that answers as a seeded die says (in any order, late, RETRY,
 *         SUSPECT, REJECT, FULL) behind a real journal.  The bridge is stepped by
 *         hand, and checked against the dumbest model: one byte per seq.  The seed
 *         is printed, so a red run is replayed with: ./test_pipeline <seed>
 */
#include "base/log.h"
#include "base/text.h"
#include "journal/scan.h"
#include "os/clock.h"
#include "os/file.h"
#include "pipeline/bridge_internal.h"
#include "pipeline_kit.h"
#include "said.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- helpers ---- */

/* Everything the cursor has passed is delivered, skipped or meant to be dead; and of what is dead
 * and was passed since `begin` the letters are durable, of which the n-th has seq n.
 */
struct passed {
    uint64_t begin;
    uint64_t seq;
    uint64_t dead;
};

static void check_passed(const struct mr_bridge *bridge, struct passed *passed,
                         const struct mr_bridge_stats *stats)
{
    for (; passed->seq < stats->cursor_seq; passed->seq += 1) {
        uint64_t seq = passed->seq + 1;
        bool must_be_there = fate_of(seq) == FATE_SEND;
        mr_assert(delivered[seq] == must_be_there);
        passed->dead += seq > passed->begin && is_dead(seq);
    }
    mr_assert(passed->dead == 0 || mr_lane_durable(bridge->dead.lane) >= passed->dead);
}

/* Step until the cursor is at `last`. */
static void run_to(struct mr_bridge *bridge, uint64_t last)
{
    struct mr_bridge_stats stats;
    int64_t now_ns = mr_clock_mono_ns();
    int64_t until_ns = now_ns + (int64_t)120 * 1000000000;
    struct passed passed = {.seq = 0};

    mr_bridge_stats(bridge, &stats);
    passed.begin = stats.cursor_seq;
    do {
        int64_t sleep_ns = mr_bridge_step(bridge, now_ns);
        now_ns += sleep_ns > 5000000 ? 5000000 : sleep_ns + 1000; /* the bridge's time */
        mr_bridge_stats(bridge, &stats);
        mr_assert(stats.cursor_seq <= last);
        check_passed(bridge, &passed, &stats);
        mr_assert(mr_clock_mono_ns() < until_ns);
    } while (stats.cursor_seq < last);
}

/* ---- the dead letters, read back from disk ---- */

static uint8_t dead_found[EVENTS * 2 + 1];

static void check_dead_letter(const struct mr_event *event)
{
    static const char *const reasons[] = {
        [FATE_DEAD_ROUTE] = "the topic has no level 2 (it has 2, from 0)",
        [FATE_DEAD_REJECT] = "rejected by the die",
        [FATE_DEAD_POISON] = "poison",
    };
    uint8_t payload[PAYLOAD_MAX];
    uint64_t seq = event->raw.dead_seq;
    char client[32];
    char topic[64];

    names_of(seq, client, topic);
    mr_assert(is_dead(seq) && !dead_found[seq]);
    dead_found[seq] = 1;
    mr_assert(mr_span_is(event->raw.dead_reason, reasons[fate_of(seq)]));
    mr_assert(mr_span_is(event->raw.dead_bridge, "test"));
    mr_assert(event->raw.dead_lane == 0);
    mr_assert(mr_span_is(event->client, client) && mr_span_is(event->topic, topic));
    mr_assert(mr_span_is(event->username, device_of(seq) % 2 == 0 ? "operator" : ""));
    mr_assert(mr_span_equal(event->payload, mr_span_make(payload, payload_of(seq, payload))));
    mr_assert(event->received_us == 1700000000000000 + (int64_t)seq * 1000);
}

/* Exactly those meant to be dead up to `last` are there, once; returns how many. */
static uint64_t check_dead(uint64_t last)
{
    struct mr_journal_options options = {.path = dead_path, .name = "dead", .read_only = true};
    struct mr_journal *journal = NULL;
    struct mr_recovery recovery;
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_error why;
    uint64_t count = 0;

    memset(dead_found, 0, sizeof(dead_found));
    mr_assert(mr_journal_open(&journal, &options, &recovery, &why) == MR_OK);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, &why) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event event;
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.type == MR_RECORD_DEAD_LETTER);
            check_dead_letter(&event);
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
    for (uint64_t seq = 1; seq <= last; seq++) {
        mr_assert(dead_found[seq] == is_dead(seq));
        count += dead_found[seq];
    }
    return count;
}

static void check_balance(struct mr_bridge *bridge, uint64_t last)
{
    struct mr_bridge_stats stats;
    uint64_t skipped = 0;
    uint64_t sent = 0;

    mr_bridge_stats(bridge, &stats);
    for (uint64_t seq = 1; seq <= last; seq++) {
        skipped += fate_of(seq) == FATE_SKIP;
        sent += fate_of(seq) == FATE_SEND;
    }
    mr_assert(stats.skipped == skipped && stats.delivered == sent);
    mr_assert(stats.delivered + stats.skipped + stats.dead_letters == last);
}

/* ---- the tests ---- */

static const struct scripted_conf plain = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static void test_settles_everything_once(uint64_t seed, const struct scripted_conf *conf)
{
    struct mr_journal *journal = journal_make();

    die_seed = seed;
    with_faults = true;
    append_all(mr_journal_lane(journal, 0), 1, EVENTS / 2);
    struct mr_bridge *bridge = bridge_make(journal, conf);
    run_to(bridge, EVENTS / 2);
    append_all(mr_journal_lane(journal, 0), EVENTS / 2 + 1, EVENTS);
    run_to(bridge, EVENTS);
    check_balance(bridge, EVENTS);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    mr_assert(check_dead(EVENTS) != 0);
    with_faults = false;
    journal_remove(journal);
}

/* Stopped in the middle, it goes on at its cursor; nothing is lost. */
static void test_goes_on_after_a_stop(uint64_t seed)
{
    struct scripted_conf conf = plain;
    struct mr_journal *journal = journal_make();
    struct mr_bridge_stats stats;
    struct mr_rng rng;

    conf.full_percent = 30;
    die_seed = seed;
    mr_rng_seed(&rng, seed);
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    for (int life = 0; life < 20; life++) {
        struct mr_bridge *bridge = bridge_make(journal, &conf);
        mr_bridge_stats(bridge, &stats);
        uint64_t before = stats.cursor_seq;
        for (uint64_t steps = mr_rng_below(&rng, 20); steps != 0; steps--) {
            mr_bridge_step(bridge, mr_clock_mono_ns());
        }
        mr_bridge_stop(bridge, 0);
        mr_bridge_stats(bridge, &stats);
        mr_assert(stats.cursor_seq >= before);
        mr_bridge_destroy(bridge);
    }
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    run_to(bridge, EVENTS);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    check_dead(EVENTS);
    journal_remove(journal);
}

/* A cursor that fell back (as after a crash) repeats no dead letter. */
static void test_repeats_no_dead_letter(uint64_t seed)
{
    struct mr_journal *journal = journal_make();

    die_seed = seed;
    with_faults = true;
    append_all(mr_journal_lane(journal, 0), 1, 2000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run_to(bridge, 2000);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    mr_assert(mr_cursor_forget(journal, "test") == MR_OK);

    bridge = bridge_make(journal, &plain);
    run_to(bridge, 2000);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    check_dead(2000); /* asserts that none is there twice */
    with_faults = false;
    journal_remove(journal);
}

/* One bad record among many is found with few refusals. */
static void test_isolates_poison_quickly(uint64_t seed)
{
    struct mr_journal *journal = journal_make();

    die_seed = seed;
    with_faults = true; /* 11 is poison, 7 and 396 are rejected */
    append_all(mr_journal_lane(journal, 0), 1, 900);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run_to(bridge, 900);
    printf("refusals for one bad record among 900: %llu\n",
           (unsigned long long)scripted_now->refusals);
    mr_assert(scripted_now->refusals <= 24);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    with_faults = false;
    journal_remove(journal);
}

/* No room for dead letters: wait in front of the event, lose nothing. */
static void test_waits_when_dead_letters_are_full(void)
{
    struct mr_journal *journal = journal_make();
    struct scripted_conf conf = plain;
    struct mr_bridge_options_run options = run_options(journal, &conf);
    struct mr_bridge *bridge = NULL;
    struct mr_bridge_stats stats;
    struct mr_error why;
    int64_t now_ns = mr_clock_mono_ns();
    uint64_t last = EVENTS * 2;

    conf.topic = "t_${topic[7]}";             /* nobody has that: all matched events are dead */
    options.dead_letters_bytes_max = 3 << 20; /* as little as the journal allows */
    append_all(mr_journal_lane(journal, 0), 1, last);
    mr_assert(mr_bridge_create(&bridge, &options, &why) == MR_OK);
    for (int i = 0; i < 3000; i++) {
        mr_bridge_step(bridge, now_ns);
        now_ns += 10000000;
        mr_bridge_stats(bridge, &stats);
        if (strcmp(stats.last_error, "no room for dead letters") == 0) {
            break;
        }
        usleep(100); /* sleep: another thread of the journal commits */
    }
    mr_assert(strcmp(stats.last_error, "no room for dead letters") == 0);
    mr_assert(stats.cursor_seq < last && stats.delivered == 0);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);

    options.dead_letters_bytes_max = 64 << 20;
    mr_assert(mr_bridge_create(&bridge, &options, &why) == MR_OK);
    do {
        mr_bridge_step(bridge, now_ns);
        now_ns += 10000000;
        mr_bridge_stats(bridge, &stats);
    } while (stats.cursor_seq < last);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
}

/* What a sink was lent stays as it is, also when a span ends with its view's last
 * event by chance (here: because the ring of records is full right there).
 */
/* `start: TIME` is the first event received then or later; an older cursor wins. */
static void test_begins_at_a_time(void)
{
    static const struct {
        const char *start;
        uint64_t cursor;
    } cases[] = {
        {"2023-11-14T22:13:20.001Z", 0}, /* the very first */
        {"2020-01-01T00:00:00Z", 0},
        {"2023-11-14T22:13:20.777Z", 776},
        {"2023-11-14T23:13:20.7775+01:00", 777},
        {"2023-11-14T22:13:22.500Z", 2499},
        {"2023-11-14T22:13:22.501Z", 2500}, /* after the last one */
        {"2100-01-01T00:00:00Z", 2500},
        {"oldest", 0},
        {"now", 2500},
    };
    struct mr_journal *journal = journal_make();

    append_all(mr_journal_lane(journal, 0), 1, 2500);
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        for (int again = 0; again < 2; again++) {
            struct mr_bridge_conf conf = bridge_conf;
            struct mr_bridge_options_run options = run_options(journal, &plain);
            struct mr_bridge *bridge = NULL;
            struct mr_bridge_stats stats;
            struct mr_error why;
            char name[16];

            snprintf(name, sizeof(name), "test-%zu", i);
            conf.start = again == 0 ? cases[i].start : "2023-11-14T22:13:21Z";
            options.conf = &conf;
            options.name = name;
            mr_assert(mr_bridge_create(&bridge, &options, &why) == MR_OK);
            mr_bridge_stats(bridge, &stats);
            mr_assert(stats.cursor_seq == cases[i].cursor);
            mr_bridge_destroy(bridge);
        }
    }
    journal_remove(journal);
}

static void test_keeps_what_it_lent(uint64_t seed)
{
    struct mr_journal *journal = journal_make();
    struct scripted_conf conf = plain;
    struct mr_bridge_conf small = bridge_conf;
    struct mr_bridge_options_run options = run_options(journal, &conf);
    struct mr_bridge *bridge = NULL;
    struct mr_error why;
    uint64_t last = 0;

    small.inflight_records = 1000;
    options.conf = &small;
    for (uint64_t sent = 0; sent < small.inflight_records; last++) {
        sent += fate_of(last + 1) == FATE_SEND;
    }
    append_all(mr_journal_lane(journal, 0), 1, last);
    die_seed = seed;
    conf.hold = true;
    mr_assert(mr_bridge_create(&bridge, &options, &why) == MR_OK);
    while (mr_bridge_step(bridge, mr_clock_mono_ns()) == 0) {
    }
    mr_assert(scripted_now->held_count >= 2);
    const struct mr_batch *first = scripted_now->held[0].batch;
    for (uint32_t i = 0; i < first->record_count; i++) {
        deliver(scripted_now, &first->records[i]);
    }
    held_remove(scripted_now, 0);
    mr_sink_settle(scripted_now->port, first->token, first->record_count, MR_VERDICT_DONE, NULL);
    append_all(mr_journal_lane(journal, 0), last + 1, EVENTS); /* takes a pin that is free */
    while (mr_bridge_step(bridge, mr_clock_mono_ns()) == 0) {
    }
    seq_to_reject = last; /* its letter is made from the view again */
    conf.hold = false;
    run_to(bridge, EVENTS);
    check_balance(bridge, EVENTS);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    check_dead(EVENTS);
    seq_to_reject = 0;
    journal_remove(journal);
}

/* ---- somebody at work in the journal's folder ---- */

/* A journal of a past life with EVENTS that nobody has read, and the second segment's
 * path, first and last seq.
 */
static struct mr_journal *journal_unread(char path[512], uint64_t *first, uint64_t *last)
{
    struct mr_journal *journal = journal_make();
    struct mr_cursor *cursor;
    char **paths = NULL;
    char lane_path[300];
    size_t count = 0;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    mr_assert(mr_journal_close(journal) == MR_OK);
    snprintf(lane_path, sizeof(lane_path), "%s/lane-00", journal_path);
    mr_assert(mr_scan_list(lane_path, &paths, &count) == MR_OK && count >= 3);
    snprintf(path, 512, "%s", paths[1]);
    *first = strtoull(strrchr(paths[1], '/') + 1, NULL, 10);
    *last = strtoull(strrchr(paths[2], '/') + 1, NULL, 10) - 1;
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    return journal_open();
}

/* A segment it still needs is removed: the range is said to be lost, once, and all else
 * arrives.
 */
static void test_goes_on_behind_a_removed_segment(void)
{
    char path[512];
    char wanted[128];
    struct mr_bridge_stats stats;
    uint64_t first = 0;
    uint64_t last = 0;
    struct mr_journal *journal = journal_unread(path, &first, &last);
    struct mr_bridge *bridge = bridge_make(journal, &plain);

    mr_assert(unlink(path) == 0);
    said_begin();
    do {
        (void)mr_bridge_step(bridge, mr_clock_mono_ns());
        mr_bridge_stats(bridge, &stats);
    } while (stats.cursor_seq < EVENTS);
    mr_log_set_writer(NULL);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND && (seq < first || seq > last)));
    }
    snprintf(wanted, sizeof(wanted), "records %llu to %llu of lane 0 are lost",
             (unsigned long long)first, (unsigned long long)last);
    const char *found = strstr(said, wanted);
    mr_assert(found != NULL && strstr(found + strlen(wanted), "are lost") == NULL);
    mr_assert(strstr(said, path) != NULL);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
}

/* A file that is there and cannot be read (a folder has its name): nothing is passed over, the
 * bridge waits in front of it, says so once, and goes on when it can be read.
 */
static void test_waits_while_the_disk_refuses(void)
{
    char path[512];
    char aside[520];
    struct mr_bridge_stats stats;
    uint64_t first = 0;
    uint64_t last = 0;
    struct mr_journal *journal = journal_unread(path, &first, &last);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    int64_t now_ns = mr_clock_mono_ns();

    snprintf(aside, sizeof(aside), "%s.aside", path);
    mr_assert(rename(path, aside) == 0 && mr_dir_create(path, NULL) == MR_OK);
    said_begin();
    while (said_times("waits in front of record") == 0) {
        now_ns += 1000000 + mr_bridge_step(bridge, now_ns);
    }
    for (int i = 0; i < 100; i++) {
        now_ns += 1000000 + mr_bridge_step(bridge, now_ns);
    }
    mr_bridge_stats(bridge, &stats);
    mr_assert(stats.state != MR_BRIDGE_STOPPED && stats.cursor_seq < first);
    mr_assert(strstr(stats.last_error, "the journal cannot be read") != NULL);
    mr_assert(!delivered[last + 1]);
    mr_assert(rmdir(path) == 0 && rename(aside, path) == 0);
    do {
        now_ns += 1000000 + mr_bridge_step(bridge, now_ns);
        mr_bridge_stats(bridge, &stats);
    } while (stats.cursor_seq < EVENTS);
    mr_log_set_writer(NULL);
    mr_assert(said_times("cannot be read") == 1);
    mr_assert(stats.last_error[0] == '\0');
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND));
    }
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
}

/* The dead letters cannot be written any more: the bridge stops and says why, instead
 * of waiting for ever for a letter that will not be durable.
 */
static void test_stops_when_the_dead_letters_fail(void)
{
    char path[512];
    struct mr_bridge_stats stats;
    uint64_t first = 0;
    uint64_t last = 0;
    struct mr_journal *journal = journal_unread(path, &first, &last);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    struct rlimit before;
    struct rlimit none;

    do {
        (void)mr_bridge_step(bridge, mr_clock_mono_ns());
        mr_bridge_stats(bridge, &stats);
    } while (stats.dead_letters == 0);
    mr_assert(getrlimit(RLIMIT_FSIZE, &before) == 0);
    none = before;
    none.rlim_cur = 0; /* every write fails: EFBIG */
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    said_begin();
    mr_assert(setrlimit(RLIMIT_FSIZE, &none) == 0);
    for (int64_t now_ns = mr_clock_mono_ns(); strstr(said, "stopped in front of") == NULL;) {
        now_ns += 1000000 + mr_bridge_step(bridge, now_ns);
    }
    mr_assert(setrlimit(RLIMIT_FSIZE, &before) == 0);
    mr_assert(signal(SIGXFSZ, handler) == SIG_IGN);
    mr_log_set_writer(NULL);
    mr_assert(strstr(said, "dead letters lane 0: ") != NULL);
    mr_assert(strstr(said, ": file too large; check the disk and restart") != NULL);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    (void)mr_journal_close(journal); /* its cursors may have met the limit too */
    folder_remove();
}

/* With its own thread, and stop() that lets it finish. */
static void test_runs_in_its_thread(uint64_t seed)
{
    struct mr_journal *journal = journal_make();
    struct mr_bridge_stats stats;
    struct mr_error why;

    die_seed = seed;
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    mr_assert(mr_bridge_start(bridge, &why) == MR_OK);
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    mr_bridge_stop(bridge, (int64_t)60 * 1000000000);
    mr_bridge_stats(bridge, &stats);
    mr_assert(stats.cursor_seq == EVENTS && stats.up);
    check_balance(bridge, EVENTS);
    mr_bridge_destroy(bridge);
    check_dead(EVENTS);
    journal_remove(journal);
}

enum { FAULT_BYTES = 512 };

static void keep_fault(void *arg, const char *fault)
{
    struct mr_text text = mr_text_over(arg, FAULT_BYTES);

    mr_text_add(&text, fault);
}

static void test_checks_the_configuration(void)
{
    static const char *bad_items[] = {"sensors/#/x"};
    struct mr_bridge_conf conf = bridge_conf;
    struct scripted_conf sink = plain;
    char fault[FAULT_BYTES];

    mr_assert(mr_bridge_check(&conf, &scripted_sink, &sink, keep_fault, fault) == 0);
    conf.from.items = bad_items;
    mr_assert(mr_bridge_check(&conf, &scripted_sink, &sink, keep_fault, fault) == 1);
    mr_assert(strstr(fault, "from: 'sensors/#/x' is not an MQTT topic filter") != NULL);
    conf = bridge_conf;
    sink.topic = "this-name-is-longer-than-forty-characters";
    mr_assert(mr_bridge_check(&conf, &scripted_sink, &sink, keep_fault, fault) == 1);
    mr_assert(strstr(fault, "is too long") != NULL);
    sink = plain;
    sink.key = "${client}";
    mr_assert(mr_bridge_check(&conf, &scripted_sink, &sink, keep_fault, fault) == 1);
    mr_assert(strstr(fault, "did you mean '${clientid}'") != NULL);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)mr_clock_wall_us() % 100000;
    struct mr_error why;
    struct scripted_conf conf = plain;

    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    test_checks_the_configuration();
    test_begins_at_a_time();
    test_settles_everything_once(seed, &conf);
    conf.full_percent = 40;
    conf.retry_per_mille = 30;
    test_settles_everything_once(seed + 1, &conf);
    conf.encoder = MR_VALUE_JSON;
    conf.headers = MR_HEADERS_ID;
    test_settles_everything_once(seed + 2, &conf);
    /* each record with a route, headers and a value of its own */
    conf.topic = "t_${topic[2]}${props.x:-}";
    conf.key = "${clientid}/${received}";
    conf.varies = true;
    conf.headers = MR_HEADERS_FULL;
    test_settles_everything_once(seed + 30, &conf);
    test_goes_on_after_a_stop(seed + 3);
    test_repeats_no_dead_letter(seed + 4);
    test_isolates_poison_quickly(seed + 5);
    test_keeps_what_it_lent(seed + 7);
    test_waits_when_dead_letters_are_full();
    test_runs_in_its_thread(seed + 6);
    test_goes_on_behind_a_removed_segment();
    test_waits_while_the_disk_refuses();
    test_stops_when_the_dead_letters_fail();
    mr_wake_close(&owner);
    return 0;
}
