/* test_pipeline_dead_disk.c
 * links: pipeline journal codec config os_sim base
 *
 * Goal:   a call to the disk of the dead letters that fails for a while stops no bridge: it waits,
 *         says so once with cause and next step, tries again with pauses, and each event that no
 *         target takes has one letter, whenever that was and whatever was repeated.
 * Method: a bridge that is stepped by hand on a simulated disk, on which one call after the other
 *         fails while the letters are opened, or read back behind a seek.  The letters are read in
 *         the end.
 */
#include "base/log.h"
#include "pipeline_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = 300, MIDDLE = 150, TURNS = 100000, READS_MAX = 200 };

static struct scripted_conf conf = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static struct mr_bridge *bridge;
static int64_t now_ns; /* the bridge's time */
static struct mr_wake pacer;
static struct {
    unsigned waits;
    unsigned over;
} heard;

static void on_line(const char *line, size_t len)
{
    static const char waits[] = "nothing is lost, it is tried again (if";
    static const char over[] = "the dead letters can be opened again";

    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
    heard.waits += memmem(line, len, waits, sizeof(waits) - 1) != NULL;
    heard.over += memmem(line, len, over, sizeof(over) - 1) != NULL;
}

static void begin(void)
{
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    memset(&heard, 0, sizeof(heard));
    snprintf(dead_path, sizeof(dead_path), "/dead");
    journal_take();
}

/* The letters' journal has threads of its own, which have their turn meanwhile. */
static struct mr_bridge_stats step(void)
{
    (void)mr_wake_wait(&pacer, 100000);
    return bridge_turn(bridge, &now_ns);
}

static void run_to(uint64_t seq)
{
    for (uint64_t turns = 0; step().cursor_seq < seq; turns++) {
        mr_assert(turns < TURNS);
    }
}

static void bridge_end(void)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

static uint64_t reads_made; /* since they began to fail */

/* How many letters `seq` has. */
static uint8_t letters[EVENTS * 2 + 1];

/* Each of them has come, or lies aside once. */
static void check_letters(uint64_t to)
{
    struct mr_journal_options options = {.path = dead_path, .name = "dead", .read_only = true};
    struct mr_journal *dead = NULL;
    struct mr_reader *reader = NULL;
    struct mr_view view;

    memset(letters, 0, sizeof(letters));
    mr_assert(mr_journal_open(&dead, &options, NULL, NULL) == MR_OK);
    mr_assert(mr_reader_open(&reader, dead, 0, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event event;
        while (mr_view_event(&view, &at, &event)) {
            letters[event.raw.dead_seq] += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(mr_journal_close(dead) == MR_OK);
    for (uint64_t seq = 1; seq <= to; seq++) {
        mr_assert(letters[seq] == (is_dead(seq) ? 1 : 0));
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND));
    }
}

static void end(void)
{
    reads_made = mr_sim_calls(MR_SIM_READ) - reads_made;
    bridge_end();
    mr_sim_inject_clear();
    check_letters(ALL);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* ---- the simulated machine ---- */

static void (*test_now)(uint64_t nth);
static uint64_t nth_now;
static bool is_over;

static void run_test(void *arg)
{
    (void)arg;
    test_now(nth_now);
    is_over = true;
}

/* `test` with the `nth` call failing, on a thread of its own. */
static void on_a_machine(void (*test)(uint64_t nth), uint64_t nth)
{
    struct mr_thread *thread = NULL;

    mr_sim_start(1);
    mr_assert(mr_wake_open(&pacer, NULL) == MR_OK);
    test_now = test;
    nth_now = nth;
    is_over = false;
    mr_assert(mr_thread_start(&thread, "test", run_test, NULL, NULL) == MR_OK);
    while (!is_over) {
        if (mr_sim_turn() == MR_SIM_IDLE) {
            mr_sim_advance(mr_sim_next_ns() - mr_clock_mono_ns());
        }
    }
    mr_thread_join(thread);
    mr_wake_close(&pacer);
    mr_sim_stop();
}

/* One read after the other, until none is left that could fail; how often it has waited. */
static unsigned with_each_read(void (*test)(uint64_t nth))
{
    unsigned waits = 0;

    for (uint64_t nth = 1; nth == 1 || nth <= reads_made; nth++) {
        on_a_machine(test, nth);
        mr_assert(heard.waits <= 1 && heard.over == heard.waits && nth < READS_MAX);
        waits += heard.waits;
    }
    return waits;
}

static uint64_t failures; /* in a row */

static void reads_fail(uint64_t nth)
{
    mr_sim_inject_clear();
    mr_sim_inject(MR_SIM_READ, nth, failures, MR_SIM_FAULT_IO);
    reads_made = mr_sim_calls(MR_SIM_READ);
}

/* ---- opening ---- */

/* There are letters of an earlier run. */
static void begin_again(void)
{
    begin();
    append(1, MIDDLE);
    bridge = bridge_make(journal, &conf);
    run_to(MIDDLE);
    bridge_end();
    append(MIDDLE + 1, ALL);
    bridge = bridge_make(journal, &conf);
}

static void test_opens_when_the_disk_lets_it(uint64_t nth)
{
    begin_again();
    reads_fail(nth);
    run_to(ALL);
    end();
}

/* ---- behind a seek ---- */

struct asking {
    uint64_t to;
    enum mr_err err;
    _Atomic bool over;
};

static void ask(void *arg)
{
    struct asking *asking = arg;
    uint64_t out;

    asking->err = mr_bridge_seek(bridge, asking->to, &out, NULL);
    atomic_store(&asking->over, true);
}

static void seek(uint64_t to)
{
    struct asking asking = {.to = to};
    struct mr_thread *thread = NULL;

    mr_assert(mr_thread_start(&thread, "asker", ask, &asking, NULL) == MR_OK);
    while (!atomic_load(&asking.over)) {
        (void)step();
    }
    mr_thread_join(thread);
    mr_assert(asking.err == MR_OK);
}

static void test_reads_back_behind_a_seek(uint64_t nth)
{
    begin_again();
    run_to(ALL);
    memset(newest_of, 0, sizeof(newest_of));
    reads_fail(nth);
    seek(1);
    run_to(ALL);
    end();
}

int main(void)
{
    mr_log_set_writer(on_line);
    failures = 1;
    mr_assert(with_each_read(test_opens_when_the_disk_lets_it) != 0);
    mr_assert(with_each_read(test_reads_back_behind_a_seek) != 0);
    failures = 9;
    mr_assert(with_each_read(test_opens_when_the_disk_lets_it) != 0);
    mr_assert(with_each_read(test_reads_back_behind_a_seek) != 0);
    return 0;
}
