/* test_journal_repair.c
 *
 * links: cli journal codec config os base
 *
 * Goal:   whatever is damaged, a repair keeps every event that reads back, with its own name,
 *         says exactly which seqs are lost, and after it the journal is sound, goes on, and is
 *         not repaired again; the damaged files are kept as they were.
 * Method: journals written by the journal itself are hurt at random places (bytes, ranges, cut
 *         tails, headers, whole files); what a walk reads before is what it must read after.
 *         The seed is printed.
 */
#include "app/cli/walk.h"
#include "base/rng.h"
#include "cli_journal_kit.h"
#include "journal/cursor.h"
#include "journal/reader.h"
#include "os/clock.h"

#include <inttypes.h>

enum { EVENTS = 1500, ROUNDS = 40 };

/* ---- what can be read ---- */

/* Mark every event that the running journal gives, each under its own name. */
static void read_all(bool seen[EVENTS + 1])
{
    struct mr_journal *journal = journal_open(true);
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    enum mr_err err = MR_OK;

    memset(seen, 0, EVENTS + 1);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        if (err == MR_ERR_CORRUPT) {
            continue;
        }
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            char client[32];
            char topic[32];
            char payload[32];
            (void)snprintf(client, sizeof(client), "dev-%u", (unsigned)(event.seq % 7));
            (void)snprintf(topic, sizeof(topic), "plant/%u/temp", (unsigned)(event.seq % 7));
            (void)snprintf(payload, sizeof(payload), "{\"seq\":%" PRIu64 ",", event.seq);
            mr_assert(mr_span_is(event.client, client) && mr_span_is(event.topic, topic));
            mr_assert(memcmp(event.payload.at, payload, strlen(payload)) == 0);
            mr_assert(event.seq <= EVENTS && !seen[event.seq]);
            seen[event.seq] = true;
        }
        mr_view_unpin(&view);
    }
    mr_assert(err == MR_ERR_AGAIN);
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* What `repair --json` lists as lost, in `lost`; lines beyond the events are numbers that were
 * given up for safety.
 */
static void lost_take(bool lost[EVENTS + 1])
{
    memset(lost, 0, EVENTS + 1);
    for (const char *at = strstr(out_text, "\"seq_first\":"); at != NULL;
         at = strstr(at + 1, "\"seq_first\":")) {
        uint64_t first = strtoull(at + strlen("\"seq_first\":"), NULL, 10);
        uint64_t last = strtoull(strstr(at, "\"seq_last\":") + strlen("\"seq_last\":"), NULL, 10);
        mr_assert(first >= 1 && first <= last);
        for (uint64_t seq = first; seq <= last && seq <= EVENTS; seq++) {
            mr_assert(!lost[seq]);
            lost[seq] = true;
        }
    }
}

/* ---- hurting ---- */

static uint64_t file_size_of(const char *path)
{
    struct mr_file file;
    uint64_t bytes = 0;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_size(&file, &bytes) == MR_OK);
    mr_file_close(&file);
    return bytes;
}

static void hurt(struct mr_rng *rng)
{
    char path[512];
    size_t count = segment_path(SIZE_MAX, path);
    size_t index = mr_rng_below(rng, count);

    (void)segment_path(index, path);
    uint64_t size = file_size_of(path);
    uint64_t pos = mr_rng_below(rng, size);
    switch (mr_rng_below(rng, 5)) {
    case 0:
        for (uint64_t i = 0; i < 300 && pos + i < size; i++) {
            flip_byte(path, (long)(pos + i));
        }
        break;
    case 1:
        flip_byte(path, (long)mr_rng_below(rng, 64)); /* its header */
        break;
    case 2:
        if (index + 1 < count) {
            mr_assert(truncate(path, (long)pos) == 0);
        }
        break;
    case 3:
        if (index > 0 && index + 1 < count) {
            mr_assert(unlink(path) == 0);
        }
        break;
    default:
        flip_byte(path, (long)pos);
    }
}

static void test_random_damage(struct mr_rng *rng)
{
    static bool before[EVENTS + 1];
    static bool after[EVENTS + 1];
    static bool lost[EVENTS + 1];
    uint64_t wounds = 1 + mr_rng_below(rng, 3);

    folder_make();
    write_events(1, EVENTS);
    for (uint64_t i = 0; i < wounds; i++) {
        hurt(rng);
    }
    int dry = run("journal repair --json");
    lost_take(lost);
    mr_assert(dry == MR_EXIT_OK || dry == MR_EXIT_FAILED);
    mr_assert(run("journal repair --json --yes") == MR_EXIT_OK);
    lost_take(before);
    mr_assert(memcmp(before, lost, sizeof(lost)) == 0); /* the dry run said what was done */

    mr_assert(run("journal verify") == MR_EXIT_OK);
    mr_assert(run("journal repair") == MR_EXIT_OK);
    mr_assert(strstr(err_text, "nothing is damaged") != NULL);
    read_all(after);
    /* Damage to the last commits, two a wound, looks like a commit that was cut: not called lost.
     */
    uint64_t tail = EVENTS;
    while (tail > 0 && !after[tail] && !lost[tail]) {
        tail -= 1;
    }
    mr_assert(tail + 20 * wounds >= EVENTS);
    for (uint64_t seq = 1; seq <= tail; seq++) {
        mr_assert(after[seq] != lost[seq]);
    }
    folder_remove();
}

/* ---- fixed places ---- */

/* Every event that reads before the repair reads after it; the files are kept. */
static void test_nothing_that_reads_is_given_up(void)
{
    static bool before[EVENTS + 1];
    static bool after[EVENTS + 1];
    char path[512];
    char copy[1024];
    uint64_t pos = 0;

    folder_make();
    write_events(1, EVENTS);
    (void)segment_path(1, path);
    (void)batch_of(path, 0, &pos);
    flip_byte(path, (long)pos + 60); /* names */
    (void)segment_path(2, path);
    (void)batch_of(path, 4, &pos);
    (void)snprintf(copy, sizeof(copy), "%s/was", folder);
    flip_byte(path, (long)pos + 70);
    read_all(before);

    mr_assert(run("journal repair") == MR_EXIT_FAILED);
    mr_assert(strstr(err_text, "2 segments damaged, ") != NULL);
    mr_assert(strstr(err_text, "nothing was changed, add --yes to repair") != NULL);
    mr_assert(strstr(out_text, "who sent them stood in a damaged place") != NULL);
    char command[2100];
    (void)snprintf(command, sizeof(command), "cp %s %s", path, copy);
    mr_assert(system(command) == 0);
    mr_assert(run("journal repair --yes") == MR_EXIT_OK);
    (void)snprintf(command, sizeof(command), "cmp %s %s/damaged/lane-00/%s", copy, journal_folder,
                   strrchr(path, '/') + 1);
    mr_assert(system(command) == 0);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    read_all(after);
    mr_assert(memcmp(before, after, sizeof(before)) == 0);

    /* It goes on, above everything that was given before. */
    struct mr_journal *journal = journal_open(true);
    append(journal, EVENTS + 1);
    commit(journal);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    folder_remove();
}

static void test_a_running_gateway_keeps_it_out(void)
{
    folder_make();
    struct mr_journal *journal = journal_open(true);

    mr_assert(run("journal repair") == MR_EXIT_TRY_AGAIN);
    mr_assert(strstr(err_text, "only while the gateway is stopped") != NULL);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run("journal repair") == MR_EXIT_OK);
    folder_remove();
}

/* The oldest segment or the newest one is gone: no other segment misses it, but a cursor does. */
static void test_a_missing_end_is_no_undamaged_journal(void)
{
    for (int newest = 0; newest < 2; newest++) {
        char path[512];
        struct mr_error why;
        struct mr_cursor *cursor = NULL;
        bool is_new = false;

        folder_make();
        write_events(1, EVENTS);
        struct mr_journal *journal = journal_open(true);
        mr_assert(mr_cursor_open(journal, "kafka", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
                  MR_OK);
        if (newest == 1) {
            mr_assert(mr_cursor_seek(cursor, EVENTS) == MR_OK);
        }
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_assert(run("journal repair") == MR_EXIT_OK);

        size_t count = segment_path(0, path);
        mr_assert(count > 1);
        (void)segment_path(newest == 1 ? count - 1 : 0, path);
        mr_assert(unlink(path) == 0);
        for (int yes = 0; yes < 2; yes++) {
            mr_assert(run(yes == 1 ? "journal repair --yes" : "journal repair") == MR_EXIT_FAILED);
            mr_assert(strstr(err_text, "nothing is damaged") == NULL);
            mr_assert(strstr(err_text, newest == 1 ? " to 1500 are missing" : "seqs 1 to ") !=
                      NULL);
        }
        mr_assert(run("journal verify") == MR_EXIT_FAILED); /* of one mind */
        folder_remove();
    }
}

/* A repair that ended at any point: the next one does not stumble over what it left. */
static void test_left_over_from_a_crash(void)
{
    char path[512];
    char left[600];
    uint64_t pos = 0;

    folder_make();
    write_events(1, EVENTS);
    (void)segment_path(1, path);
    (void)batch_of(path, 2, &pos);
    flip_byte(path, (long)pos + 50);
    (void)snprintf(left, sizeof(left), "%s/repair.tmp", lane_folder);
    FILE *file = fopen(left, "wb");
    mr_assert(file != NULL && fputs("half a segment", file) >= 0 && fclose(file) == 0);
    mr_assert(run("journal repair --yes") == MR_EXIT_OK);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    mr_assert(!mr_path_exists(left));
    folder_remove();
}

int main(void)
{
    const char *given = getenv("MR_SEED");
    uint64_t seed = given == NULL ? (uint64_t)mr_clock_wall_us() : strtoull(given, NULL, 10);
    struct mr_rng rng;

    (void)printf("seed: MR_SEED=%" PRIu64 "\n", seed);
    mr_rng_seed(&rng, seed);
    test_nothing_that_reads_is_given_up();
    test_a_running_gateway_keeps_it_out();
    test_left_over_from_a_crash();
    test_a_missing_end_is_no_undamaged_journal();
    for (int round = 0; round < ROUNDS; round++) {
        test_random_damage(&rng);
    }
    free(out_text);
    free(err_text);
    (void)puts("journal repair: ok");
    return 0;
}
