/* test_os_sim.c
 * links: os_sim base
 *
 * Goal:   the simulated world is as bad as sim.h says, and no worse: what was
 *         synced is never lost, what was not may be lost, torn or kept.
 * Method: each property over many seeds; "may" properties must be seen to happen
 *         at least once, "never" properties must hold each time.  A failing seed
 *         is printed by the assertion's line; ./test_os_sim <seed> runs one seed.
 */
#include "base/rng.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/loop.h"
#include "os/process.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 200, SECTOR = 512 };

static uint64_t seed_first = 1;
static uint64_t seed_last = SEEDS;

static void write_fill(struct mr_file *file, uint8_t with, size_t len, uint64_t pos)
{
    uint8_t bytes[16 * SECTOR];

    mr_assert(len <= sizeof(bytes));
    memset(bytes, with, sizeof(bytes));
    struct mr_span part = mr_span_make(bytes, len);
    mr_assert(mr_file_write(file, &part, 1, pos) == MR_OK);
}

static struct mr_file file_made(const char *path)
{
    struct mr_file file;
    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    return file;
}

/* Read a whole file of at most `max` bytes; SIZE_MAX if it is not there. */
static size_t file_content(const char *path, uint8_t *into, size_t max)
{
    struct mr_file file;
    size_t got = 0;

    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return SIZE_MAX;
    }
    mr_assert(mr_file_read(&file, into, max, 0, &got) == MR_OK);
    mr_file_close(&file);
    return got;
}

static void test_synced_survives_and_unsynced_tears(void)
{
    unsigned torn = 0;
    unsigned all_kept = 0;
    unsigned all_lost = 0;
    unsigned shorter = 0;

    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint8_t found[16 * SECTOR];

        mr_sim_start(seed);
        struct mr_file file = file_made("j");
        write_fill(&file, 1, 8 * SECTOR, 0);
        mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
        write_fill(&file, 2, 4 * SECTOR, 2 * SECTOR); /* over synced bytes */
        write_fill(&file, 3, 4 * SECTOR, 8 * SECTOR); /* behind them */
        mr_sim_crash();

        size_t got = file_content("j", found, sizeof(found));
        mr_assert(got != SIZE_MAX && got >= 8 * SECTOR && got <= 12 * SECTOR);
        unsigned kept = 0;
        for (size_t i = 0; i < got; i++) {
            size_t sector = i / SECTOR;
            bool over = sector >= 2 && sector < 6;
            mr_assert(over          ? found[i] == 1 || found[i] == 2
                      : sector >= 8 ? found[i] == 0 || found[i] == 3
                                    : found[i] == 1);
            mr_assert(i % SECTOR == 0 || found[i] == found[i - 1]); /* sectors are atomic */
            kept += over && i % SECTOR == 0 && found[i] == 2;
        }
        torn += kept > 0 && kept < 4;
        all_kept += kept == 4;
        all_lost += kept == 0;
        shorter += got < 12 * SECTOR;
        mr_sim_stop();
    }
    if (seed_first != seed_last) {
        mr_assert(torn > 0 && all_kept > 0 && all_lost > 0 && shorter > 0 && shorter < SEEDS);
    }
}

static void test_a_failed_sync_loses_pages_for_good(void)
{
    unsigned lost = 0;
    unsigned still_seen = 0;

    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint8_t seen[8 * SECTOR];
        uint8_t found[8 * SECTOR];

        mr_sim_start(seed);
        struct mr_file file = file_made("j");
        mr_assert(mr_file_fill_zero(&file, sizeof(found)) == MR_OK && mr_dir_sync(".") == MR_OK);
        write_fill(&file, 7, sizeof(found), 0);
        mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
        mr_assert(mr_file_sync(&file) == MR_ERR_IO);
        mr_assert(mr_file_sync(&file) == MR_OK); /* a lie, as Linux tells it */
        mr_assert(file_content("j", seen, sizeof(seen)) == sizeof(seen));
        mr_sim_crash();
        mr_assert(file_content("j", found, sizeof(found)) == sizeof(found));
        for (size_t i = 0; i < sizeof(found); i += SECTOR) {
            mr_assert(found[i] == 0 || found[i] == 7);
            lost += found[i] == 0;
            still_seen += found[i] == 0 && seen[i] == 7;
        }
        mr_sim_stop();
    }
    if (seed_first != seed_last) {
        mr_assert(lost > 0 && still_seen > 0 && still_seen < lost);
    }
}

static void test_names_need_a_folder_sync(void)
{
    unsigned a_there = 0;
    unsigned b_without_a = 0;
    unsigned renamed = 0;
    unsigned removed = 0;

    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint8_t content[16];

        mr_sim_start(seed);
        mr_assert(mr_dir_create("d/e", NULL) == MR_OK);
        struct mr_file file = file_made("d/e/synced");
        write_fill(&file, 1, 8, 0);
        mr_assert(mr_file_sync(&file) == MR_OK);
        file = file_made("d/e/old");
        file = file_made("d/e/target");
        write_fill(&file, 2, 8, 0);
        mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync("d/e/") == MR_OK);

        file = file_made("d/e/a");
        mr_assert(mr_file_sync(&file) == MR_OK); /* of the file, not of its name */
        file = file_made("d/e/b");
        file = file_made("d/e/tmp");
        write_fill(&file, 3, 8, 0);
        mr_assert(mr_file_sync(&file) == MR_OK);
        mr_assert(mr_path_rename("d/e/tmp", "d/e/target") == MR_OK);
        mr_assert(mr_path_remove("d/e/old") == MR_OK);
        mr_assert(!mr_path_exists("d/e/old") && !mr_path_exists("d/e/tmp"));
        mr_sim_crash();

        mr_assert(file_content("d/e/synced", content, sizeof(content)) == 8);
        /* A rename is atomic: the old file or the new one, whole. */
        mr_assert(file_content("d/e/target", content, sizeof(content)) == 8);
        mr_assert(content[0] == content[7] && (content[0] == 2 || content[0] == 3));
        renamed += content[0] == 3;
        mr_assert(content[0] == 2 || !mr_path_exists("d/e/tmp"));
        removed += !mr_path_exists("d/e/old");
        a_there += mr_path_exists("d/e/a");
        b_without_a += mr_path_exists("d/e/b") && !mr_path_exists("d/e/a");
        mr_assert(mr_path_exists("d/e"));
        mr_sim_stop();
    }
    if (seed_first != seed_last) {
        mr_assert(a_there > 0 && a_there < SEEDS && b_without_a > 0);
        mr_assert(renamed > 0 && renamed < SEEDS && removed > 0 && removed < SEEDS);
    }
}

static void test_a_renamed_file_is_somewhere(void)
{
    unsigned new_name = 0;

    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint8_t at_a[16] = {0};
        uint8_t at_b[16] = {0};

        mr_sim_start(seed);
        struct mr_file file = file_made("a");
        write_fill(&file, 1, 8, 0);
        mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
        mr_assert(mr_path_rename("a", "b") == MR_OK);
        file = file_made("a"); /* may not happen without the rename before it */
        write_fill(&file, 2, 8, 0);
        mr_assert(mr_file_sync(&file) == MR_OK);
        mr_sim_crash();
        (void)file_content("a", at_a, sizeof(at_a));
        (void)file_content("b", at_b, sizeof(at_b));
        mr_assert((at_a[0] == 1) != (at_b[0] == 1)); /* in one place, never in none or two */
        new_name += at_b[0] == 1;
        mr_sim_stop();
    }
    if (seed_first != seed_last) {
        mr_assert(new_name > 0 && new_name < SEEDS);
    }
}

static void count_name(void *arg, const char *name)
{
    unsigned *count = arg;

    *count += 1;
    mr_assert(strcmp(name, "j") == 0 || strcmp(name, "k") == 0 || strcmp(name, "sub") == 0);
}

static void test_names_by_hand(void)
{
    struct mr_file file;
    struct mr_file second;
    struct mr_error why;
    unsigned count = 0;

    mr_sim_start(1);
    mr_assert(mr_dir_create("/data//lane/", &why) == MR_OK);
    mr_assert(mr_dir_create("/data/lane/sub", &why) == MR_OK);
    mr_assert(mr_file_open(&file, "/data/lane/j", MR_FILE_READ, &why) == MR_ERR_REJECT);
    mr_assert(mr_file_open(&file, "/nowhere/j", MR_FILE_CREATE, &why) == MR_ERR_IO);
    file = file_made("/data/lane/j");
    mr_assert(mr_file_open(&second, "/data//lane/j", MR_FILE_CREATE, &why) == MR_ERR_REJECT);
    second = file_made("/data/lane/k");
    mr_assert(mr_dir_list("/data/lane", count_name, &count) == MR_OK && count == 3);
    mr_assert(mr_dir_list("/nowhere", count_name, &count) == MR_ERR_REJECT);
    mr_assert(mr_dir_sync("/nowhere") == MR_ERR_REJECT);
    mr_assert(mr_path_remove("/data/lane/x") == MR_ERR_REJECT);
    mr_assert(mr_path_rename("/data/lane/x", "/data/lane/y") == MR_ERR_REJECT);

    /* A removed file stays readable through its handle. */
    write_fill(&file, 5, 10, 0);
    mr_assert(mr_path_remove("/data/lane/j") == MR_OK);
    uint8_t byte = 0;
    size_t got = 0;
    mr_assert(mr_file_read(&file, &byte, 1, 9, &got) == MR_OK && got == 1 && byte == 5);
    mr_file_close(&file);
    mr_file_close(&second);

    mr_assert(mr_dir_lock("/data", &file, &why) == MR_OK);
    mr_assert(mr_dir_lock("/data", &second, &why) == MR_ERR_AGAIN);
    mr_file_close(&file);
    mr_assert(mr_dir_lock("/data", &second, &why) == MR_OK);
    mr_sim_crash(); /* a lock dies with its process */
    mr_assert(mr_dir_lock("/data", &second, &why) == MR_OK);
    mr_sim_stop();
}

static void make_file(const char *path, uint8_t with)
{
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    write_fill(&file, with, 4, 0);
    mr_assert(mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

/* A folder takes along what is in it; one that goes takes along what a crash would bring back. */
static void test_folders_move_and_go(void)
{
    uint8_t found[8];

    mr_sim_start(3);
    mr_assert(mr_dir_create("s/old", NULL) == MR_OK && mr_dir_create("s/new/a", NULL) == MR_OK);
    make_file("s/old/x", 1);
    make_file("s/new/a/x", 2);
    mr_assert(mr_dir_sync("s/old") == MR_OK && mr_dir_sync("s/new/a") == MR_OK);
    mr_assert(mr_path_remove("s/old") == MR_ERR_IO); /* there is something in it */
    mr_assert(mr_path_rename("s/new/a", "s/old") == MR_ERR_IO);
    mr_assert(mr_path_remove("s/old/x") == MR_OK && mr_path_remove("s/old") == MR_OK);
    mr_assert(mr_path_rename("s/new/a", "s/old") == MR_OK);
    mr_assert(!mr_path_exists("s/new/a") && mr_path_exists("s/new"));
    mr_sim_crash();
    mr_assert(file_content("s/old/x", found, sizeof(found)) == 4 && found[0] == 2);
    mr_assert(mr_path_rename("s", "t") == MR_OK);
    mr_assert(mr_path_exists("t/old/x") && mr_path_exists("t/new") && !mr_path_exists("s/old/x"));
    mr_sim_stop();
}

static void test_disk_limit(void)
{
    uint64_t free_bytes = 0;
    uint64_t size = 0;
    uint8_t bytes[4 * SECTOR] = {0};
    struct mr_span part = mr_span_make(bytes, sizeof(bytes));

    mr_sim_start(1);
    mr_sim_disk_limit(10 * SECTOR);
    struct mr_file filled = file_made("filled");
    mr_assert(mr_file_fill_zero(&filled, 8 * SECTOR) == MR_OK);
    mr_assert(mr_disk_free(".", &free_bytes) == MR_OK && free_bytes == 2 * SECTOR);

    struct mr_file grown = file_made("grown");
    mr_assert(mr_file_write(&grown, &part, 1, 0) == MR_ERR_FULL);
    mr_assert(mr_file_size(&grown, &size) == MR_OK && size == 2 * SECTOR); /* what fitted */
    write_fill(&filled, 1, 8 * SECTOR, 0); /* room that was taken before is there */
    mr_assert(mr_file_fill_zero(&grown, 3 * SECTOR) == MR_ERR_FULL);

    mr_assert(mr_file_truncate(&filled, 6 * SECTOR) == MR_OK);
    mr_assert(mr_file_write(&grown, &part, 1, 0) == MR_OK);
    mr_assert(mr_path_remove("filled") == MR_OK);
    mr_assert(mr_disk_free(".", &free_bytes) == MR_OK && free_bytes == 0); /* still open */
    mr_file_close(&filled);
    mr_assert(mr_disk_free(".", &free_bytes) == MR_OK && free_bytes == 6 * SECTOR);

    /* A hole occupies nothing, and so promises nothing. */
    mr_assert(mr_file_truncate(&grown, 100 * SECTOR) == MR_OK);
    mr_assert(mr_disk_free(".", &free_bytes) == MR_OK && free_bytes == 6 * SECTOR);
    mr_sim_disk_limit(4 * SECTOR);
    mr_assert(mr_file_write(&grown, &part, 1, 50 * SECTOR) == MR_ERR_FULL);
    mr_sim_stop();
}

static void test_truncated_bytes_do_not_come_back(void)
{
    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint8_t found[4 * SECTOR];

        mr_sim_start(seed);
        struct mr_file file = file_made("j");
        write_fill(&file, 9, sizeof(found), 0);
        mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
        mr_assert(mr_file_truncate(&file, 700) == MR_OK);
        mr_assert(mr_file_truncate(&file, sizeof(found)) == MR_OK);
        mr_assert(mr_file_sync(&file) == MR_OK);
        mr_sim_crash();
        mr_assert(file_content("j", found, sizeof(found)) == sizeof(found));
        mr_assert(found[699] == 9 && found[700] == 0 && found[4 * SECTOR - 1] == 0);
        mr_sim_stop();
    }
}

static void test_faults_come_at_the_nth_call(void)
{
    struct mr_file file;
    struct mr_span part = mr_span_of("record");
    size_t got = 0;
    char byte = 0;

    mr_sim_start(3);
    file = file_made("j");
    mr_sim_inject(MR_SIM_WRITE, 2, 2, MR_SIM_FAULT_FULL);
    mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, 6) == MR_ERR_FULL);
    mr_assert(mr_file_write(&file, &part, 1, 6) == MR_ERR_FULL);
    mr_assert(mr_file_write(&file, &part, 1, 6) == MR_OK);
    mr_assert(mr_sim_calls(MR_SIM_WRITE) == 4);

    mr_sim_inject(MR_SIM_READ, 1, 0, MR_SIM_FAULT_IO);
    mr_assert(mr_file_read(&file, &byte, 1, 0, &got) == MR_ERR_IO);
    mr_assert(mr_file_read(&file, &byte, 1, 0, &got) == MR_ERR_IO);
    mr_sim_inject_clear();
    mr_assert(mr_file_read(&file, &byte, 1, 0, &got) == MR_OK && byte == 'r');

    mr_sim_inject(MR_SIM_CREATE, 1, 1, MR_SIM_FAULT_FULL);
    mr_sim_inject(MR_SIM_RENAME, 1, 1, MR_SIM_FAULT_IO);
    mr_sim_inject(MR_SIM_REMOVE, 1, 1, MR_SIM_FAULT_IO);
    mr_sim_inject(MR_SIM_DIR_SYNC, 1, 1, MR_SIM_FAULT_IO);
    mr_sim_inject(MR_SIM_FILL, 1, 1, MR_SIM_FAULT_FULL);
    struct mr_file other;
    mr_assert(mr_file_open(&other, "k", MR_FILE_CREATE, NULL) == MR_ERR_FULL);
    mr_assert(!mr_path_exists("k"));
    mr_assert(mr_path_rename("j", "k") == MR_ERR_IO && mr_path_exists("j"));
    mr_assert(mr_path_remove("j") == MR_ERR_IO && mr_path_exists("j"));
    mr_assert(mr_dir_sync(".") == MR_ERR_IO);
    mr_assert(strcmp(mr_file_last_cause(), "input/output error") == 0);
    mr_assert(mr_file_fill_zero(&file, 5000) == MR_ERR_FULL);
    mr_assert(strcmp(mr_file_last_cause(), "no space left on device") == 0);
    mr_assert(mr_file_fill_zero(&file, 5000) == MR_OK);
    mr_sim_stop();
}

static void test_spared_calls_have_no_faults(void)
{
    mr_sim_start(3);
    mr_sim_inject(MR_SIM_CREATE, 1, 1, MR_SIM_FAULT_CRASH);
    mr_sim_inject(MR_SIM_SYNC, 2, 1, MR_SIM_FAULT_IO);
    mr_sim_sync_lie(1000);
    mr_sim_spare(true);
    struct mr_file file = file_made("j");
    write_fill(&file, 7, SECTOR, 0);
    mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
    mr_sim_spare(false);
    mr_assert(mr_sim_calls(MR_SIM_CREATE) == 0 && mr_sim_calls(MR_SIM_SYNC) == 0);
    mr_assert(mr_file_sync(&file) == MR_OK); /* the first that counts */
    mr_assert(mr_file_sync(&file) == MR_ERR_IO);
    mr_sim_crash();

    uint8_t found[SECTOR];
    mr_assert(file_content("j", found, sizeof(found)) == sizeof(found));
    mr_assert(found[0] == 7 && found[SECTOR - 1] == 7);
    mr_sim_stop();
}

static bool step_ended;

static void step_writes(void *arg)
{
    struct mr_file file = file_made("j");

    (void)arg;
    write_fill(&file, 1, SECTOR, 0);
    mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
    write_fill(&file, 2, SECTOR, SECTOR);
    (void)!mr_file_sync(&file);
    step_ended = true;
}

static void test_crash_inside_a_call_returns_to_run(void)
{
    for (enum mr_sim_call call = 0; call < MR_SIM_CALLS; call++) {
        for (uint64_t seed = seed_first; seed <= seed_last && seed < seed_first + 20; seed++) {
            for (uint64_t nth = 1; nth <= 2; nth++) {
                uint8_t found[2 * SECTOR];

                mr_sim_start(seed);
                step_ended = false;
                mr_sim_inject(call, nth, 0, MR_SIM_FAULT_CRASH);
                bool ended = mr_sim_run(step_writes, NULL);
                mr_assert(ended == step_ended);
                mr_assert(ended == (mr_sim_calls(call) < nth));
                if (ended) {
                    mr_sim_inject_clear(); /* else the crash has cleared it */
                }
                size_t got = file_content("j", found, sizeof(found));
                if (mr_sim_calls(MR_SIM_WRITE) == 2) { /* the first sync had succeeded */
                    mr_assert(got != SIZE_MAX && got >= SECTOR && found[SECTOR - 1] == 1);
                }
                mr_sim_stop();
            }
        }
    }
}

static void test_damage(void)
{
    struct mr_file file;
    uint8_t found[8];

    mr_sim_start(1);
    file = file_made("j");
    write_fill(&file, 0x10, 8, 0);
    mr_assert(mr_file_sync(&file) == MR_OK && mr_dir_sync(".") == MR_OK);
    mr_assert(mr_sim_file_damage("j", 3, 0x01) == MR_OK);
    mr_assert(mr_sim_file_damage("nowhere", 3, 0x01) == MR_ERR_REJECT);
    mr_assert(mr_sim_file_cut("j", 5) == MR_OK);
    mr_sim_crash();
    mr_assert(file_content("j", found, sizeof(found)) == 5);
    mr_assert(found[2] == 0x10 && found[3] == 0x11);
    mr_sim_stop();
}

static void test_time_moves_when_told(void)
{
    struct mr_wake wake;

    mr_sim_start(1);
    int64_t mono = mr_clock_mono_ns();
    int64_t wall = mr_clock_wall_us();
    mr_assert(mr_wake_open(&wake, NULL) == MR_OK && !mr_wake_wait(&wake, 1000000000));
    mr_assert(mr_clock_mono_ns() == mono);
    mr_wake_ring(&wake);
    mr_wake_ring(&wake);
    mr_assert(mr_wake_wait(&wake, -1) && !mr_wake_wait(&wake, 0));
    mr_sim_advance(5000);
    mr_sim_wall_jump(-3600000000);
    mr_assert(mr_clock_mono_ns() == mono + 5000);
    mr_assert(mr_clock_wall_us() == wall + 5 - 3600000000);
    mr_wake_close(&wake);
    mr_sim_stop();
}

/* ---- streams ---- */

struct stream {
    struct mr_loop *loop;
    int listener;
    int client;
    int server;
};

static struct stream stream_open(void)
{
    struct stream stream;
    struct mr_address bound;
    struct mr_ready event;

    mr_assert(mr_loop_open(&stream.loop, NULL) == MR_OK);
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &stream.listener,
                               &bound, NULL) == MR_OK);
    mr_assert(mr_loop_add(stream.loop, stream.listener, MR_READY_READ, 1) == MR_OK);
    mr_assert(mr_socket_accept(stream.listener, &stream.server, NULL) == MR_ERR_AGAIN);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 0);
    mr_assert(mr_socket_connect(bound.text, &stream.client, NULL) == MR_OK);
    mr_assert(mr_socket_connected(stream.client, NULL) == MR_OK);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 1 && event.tag == 1);
    mr_assert(mr_socket_accept(stream.listener, &stream.server, NULL) == MR_OK);
    mr_assert(mr_loop_add(stream.loop, stream.server, MR_READY_READ, 2) == MR_OK);
    return stream;
}

static void test_streams_delay_and_split(void)
{
    struct mr_ready event;
    char into[16] = "";
    size_t done = 0;

    mr_sim_start(1);
    struct stream stream = stream_open();
    mr_sim_stream_shape(stream.client, 1000, 3);
    mr_assert(mr_socket_write(stream.client, "abcdefgh", 8, &done) == MR_OK && done == 8);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 0);
    mr_assert(mr_socket_read(stream.server, into, 16, &done) == MR_ERR_AGAIN);
    mr_sim_advance(999);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 0);
    mr_sim_advance(1);

    static const char *const pieces[] = {"abc", "def", "gh"};
    for (size_t i = 0; i < MR_COUNT_OF(pieces); i++) {
        mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 1 && event.tag == 2);
        mr_assert(mr_socket_read(stream.server, into, 16, &done) == MR_OK);
        mr_assert(done == strlen(pieces[i]) && memcmp(into, pieces[i], done) == 0);
        mr_assert(mr_socket_read(stream.server, into, 16, &done) == MR_ERR_AGAIN);
    }

    /* The other direction has no shape: it arrives at once and whole. */
    mr_assert(mr_socket_write(stream.server, "xy", 2, &done) == MR_OK);
    mr_assert(mr_socket_write(stream.server, "z", 1, &done) == MR_OK);
    mr_assert(mr_socket_read(stream.client, into, 2, &done) == MR_OK && done == 2);
    mr_assert(mr_socket_read(stream.client, into, 16, &done) == MR_OK && done == 1);
    mr_assert(into[0] == 'z');

    mr_socket_shutdown(stream.client);
    mr_assert(mr_socket_read(stream.server, into, 16, &done) == MR_ERR_AGAIN);
    mr_sim_advance(1000);
    mr_assert(mr_socket_read(stream.server, into, 16, &done) == MR_OK && done == 0);
    mr_assert(mr_socket_write(stream.server, "bye", 3, &done) == MR_OK && done == 3);
    mr_sim_stop();
}

static void test_streams_fill_up_break_and_end(void)
{
    static uint8_t bytes[200000];
    struct mr_ready event;
    size_t sent = 0;
    size_t got = 0;
    int refused = -1;

    mr_sim_start(2);
    struct stream stream = stream_open();
    mr_assert(mr_socket_write(stream.client, bytes, sizeof(bytes), &sent) == MR_OK);
    mr_assert(sent > 0 && sent < sizeof(bytes));
    size_t more = 1;
    mr_assert(mr_socket_write(stream.client, bytes, 1, &more) == MR_OK && more == 0);
    mr_assert(mr_loop_add(stream.loop, stream.client, MR_READY_WRITE, 3) == MR_OK);
    mr_loop_remove(stream.loop, stream.server);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 0);
    mr_assert(mr_socket_read(stream.server, bytes, sizeof(bytes), &got) == MR_OK && got == sent);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 1 && event.tag == 3);

    mr_sim_stream_break(stream.client);
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 1);
    mr_assert((event.what & MR_READY_GONE) != 0);
    mr_assert(mr_socket_read(stream.server, bytes, 1, &got) == MR_ERR_IO);
    mr_assert(mr_socket_write(stream.server, bytes, 1, &got) == MR_ERR_IO);
    mr_socket_close(stream.client); /* leaves the loop by itself */
    mr_assert(mr_loop_wait(stream.loop, &event, 1, -1, NULL, NULL) == 0);
    mr_socket_close(stream.server);
    mr_socket_close(stream.listener);
    mr_assert(mr_socket_connect("127.0.0.1:40001", &refused, NULL) == MR_ERR_AGAIN);

    /* Closing with bytes unread resets the other side, else it ends it. */
    mr_loop_close(stream.loop);
    stream = stream_open();
    mr_assert(mr_socket_write(stream.client, bytes, 5, &sent) == MR_OK);
    mr_socket_close(stream.server);
    mr_assert(mr_socket_read(stream.client, bytes, 1, &got) == MR_ERR_IO);
    mr_socket_close(stream.client);
    mr_sim_stop();
}

/* A fingerprint of a run that takes every kind of random decision. */
static uint64_t run_of_seed(uint64_t seed)
{
    uint8_t found[16 * SECTOR] = {0};
    uint64_t print = 0;

    mr_sim_start(seed);
    mr_os_random(&print, sizeof(print));
    for (unsigned round = 0; round < 5; round++) {
        char path[8];
        (void)snprintf(path, sizeof(path), "j%u", round);
        struct mr_file file = file_made(path);
        write_fill(&file, (uint8_t)(round + 1), sizeof(found), 0);
        mr_sim_inject(MR_SIM_SYNC, 1, 1, round % 2 == 0 ? MR_SIM_FAULT_IO : MR_SIM_FAULT_NONE);
        (void)!mr_file_sync(&file);
        if (round % 2 == 0) {
            mr_assert(mr_dir_sync(".") == MR_OK);
        }
        write_fill(&file, 99, sizeof(found) / 2, 0);
        mr_sim_crash();
        size_t got = file_content(path, found, sizeof(found));
        for (size_t i = 0; got != SIZE_MAX && i < got; i += SECTOR) {
            print = print * 31 + found[i];
        }
        print = print * 31 + got;
    }
    mr_sim_stop();
    return print;
}

static void test_same_seed_same_world(void)
{
    unsigned same = 0;

    for (uint64_t seed = seed_first; seed <= seed_last; seed++) {
        uint64_t print = run_of_seed(seed);
        mr_assert(print == run_of_seed(seed));
        same += print == run_of_seed(seed + 1);
    }
    mr_assert(same == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        seed_first = seed_last = strtoull(argv[1], NULL, 10);
    }
    printf("seeds %llu to %llu\n", (unsigned long long)seed_first, (unsigned long long)seed_last);
    test_synced_survives_and_unsynced_tears();
    test_a_failed_sync_loses_pages_for_good();
    test_names_need_a_folder_sync();
    test_a_renamed_file_is_somewhere();
    test_names_by_hand();
    test_folders_move_and_go();
    test_disk_limit();
    test_truncated_bytes_do_not_come_back();
    test_faults_come_at_the_nth_call();
    test_spared_calls_have_no_faults();
    test_crash_inside_a_call_returns_to_run();
    test_damage();
    test_time_moves_when_told();
    test_streams_delay_and_split();
    test_streams_fill_up_break_and_end();
    test_same_seed_same_world();
    return 0;
}
