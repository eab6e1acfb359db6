/* test_os_sim_threads.c - links: os_sim base
 *
 * Threads of the simulated world take turns: each in its own stack, chosen by the seed, the
 * same every time; a crash forgets them.
 */
#include "os/clock.h"
#include "os/file.h"
#include "os/sim.h"
#include "os/thread.h"

#include <stdio.h>
#include <string.h>

enum { SEEDS = 200, ITEMS = 20 };

/* A queue between two threads, as the journal and its commit thread have one. */
static struct {
    struct mr_mutex mutex;
    struct mr_wake filled;
    struct mr_wake emptied;
    int items;
    int made;
    int taken;
    bool ended;
    char order[4 * ITEMS + 1];
    size_t order_len;
} queue;

static void note(char what)
{
    mr_assert(queue.order_len + 1 < sizeof(queue.order));
    queue.order[queue.order_len++] = what;
}

static void write_and_sync(const char *path)
{
    struct mr_file file;
    struct mr_span text = {.at = (const uint8_t *)"durable", .len = 7};

    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &text, 1, 0) == MR_OK);
    mr_assert(mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
    mr_assert(mr_dir_sync("f") == MR_OK);
}

static void make_items(void *arg)
{
    (void)arg;
    for (int i = 0; i < ITEMS; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "f/%d", i);
        write_and_sync(path);
        mr_mutex_lock(&queue.mutex);
        queue.items += 1;
        queue.made += 1;
        mr_mutex_unlock(&queue.mutex);
        note('m');
        mr_wake_ring(&queue.filled);
        if (i % 5 == 4) {
            (void)mr_wake_wait(&queue.emptied, 1000000);
        }
    }
}

static void take_items(void *arg)
{
    struct mr_thread *maker = NULL;
    int64_t begin_ns = mr_clock_mono_ns();

    (void)arg;
    mr_assert(mr_thread_start(&maker, "maker", make_items, NULL, NULL) == MR_OK);
    while (queue.taken < ITEMS) {
        mr_mutex_lock(&queue.mutex);
        queue.taken += queue.items;
        queue.items = 0;
        mr_mutex_unlock(&queue.mutex);
        note('t');
        mr_wake_ring(&queue.emptied);
        if (queue.taken < ITEMS) {
            (void)mr_wake_wait(&queue.filled, -1);
        }
    }
    mr_thread_join(maker);
    mr_assert(!mr_wake_wait(&queue.filled, 5000000000));
    mr_assert(mr_clock_mono_ns() - begin_ns >= 5000000000);
    queue.ended = true;
}

static void world_begin(uint64_t seed)
{
    struct mr_thread *taker = NULL;

    mr_sim_start(seed);
    mr_sim_disk_pace(50, 2000000);
    memset(&queue, 0, sizeof(queue));
    mr_mutex_init(&queue.mutex);
    mr_assert(mr_dir_create("f", NULL) == MR_OK);
    mr_assert(mr_wake_open(&queue.filled, NULL) == MR_OK);
    mr_assert(mr_wake_open(&queue.emptied, NULL) == MR_OK);
    mr_assert(mr_thread_start(&taker, "taker", take_items, NULL, NULL) == MR_OK);
}

/* Up to `turns` turns, and the time they need.  False: it crashed. */
static bool world_go(int turns)
{
    for (int i = 0; i < turns && !queue.ended; i++) {
        switch (mr_sim_turn()) {
        case MR_SIM_CRASHED:
        case MR_SIM_DIED:
            return false;
        case MR_SIM_IDLE:
            mr_assert(mr_sim_next_ns() != INT64_MAX); /* else they wait for each other */
            mr_sim_advance(mr_sim_next_ns() - mr_clock_mono_ns());
            break;
        case MR_SIM_RAN:
            break;
        }
    }
    return true;
}

static uint64_t run_to_the_end(uint64_t seed)
{
    world_begin(seed);
    mr_assert(world_go(100000) && queue.ended && queue.made == ITEMS);
    uint64_t hash = mr_sim_trace_hash();
    mr_sim_stop();
    return hash;
}

static void test_same_seed_same_run(void)
{
    uint64_t other = 0;
    unsigned differ = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t first = run_to_the_end(seed);
        char now[sizeof(queue.order)];
        memcpy(now, queue.order, sizeof(now));
        mr_assert(run_to_the_end(seed) == first);
        mr_assert(memcmp(now, queue.order, sizeof(now)) == 0);
        differ += first != other;
        other = first;
    }
    mr_assert(differ > SEEDS * 9 / 10); /* and other seeds are other runs */
}

static int durable_files(void)
{
    int count = 0;

    while (count < ITEMS) {
        char path[32];
        (void)snprintf(path, sizeof(path), "f/%d", count);
        if (!mr_path_exists(path)) {
            break;
        }
        count += 1;
    }
    return count;
}

/* Whatever was made before the crash is there; the threads are not. */
static void test_a_crash_forgets_threads_and_keeps_what_was_synced(void)
{
    unsigned inside = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_begin(seed);
        if (seed % 2 == 0) {
            mr_sim_inject(MR_SIM_SYNC, 1 + seed % ITEMS, 1, MR_SIM_FAULT_CRASH);
        }
        if (!world_go((int)seed)) {
            inside += 1;
        } else {
            mr_sim_crash();
        }
        mr_assert(durable_files() >= queue.made);
        mr_assert(mr_sim_turn() == MR_SIM_IDLE && mr_sim_next_ns() == INT64_MAX);
        mr_sim_stop();
    }
    mr_assert(inside > SEEDS / 10);
}

/* The process dies and the machine does not: nothing that was written is lost, yet. */
static void test_a_kill_keeps_what_was_written(void)
{
    struct mr_file file;
    struct mr_span text = {.at = (const uint8_t *)"written", .len = 7};
    uint8_t found[8];
    size_t got = 0;

    mr_sim_start(7);
    mr_assert(mr_file_open(&file, "g", MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &text, 1, 0) == MR_OK);
    mr_sim_kill();
    mr_file_close(&file); /* harmless */
    mr_assert(mr_file_open(&file, "g", MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, found, sizeof(found), 0, &got) == MR_OK && got == 7);
    mr_file_close(&file);
    mr_sim_stop();
}

/* A device that lies about its flushes is believed, and found out by a power cut. */
static void test_a_lying_sync_loses(void)
{
    unsigned lost = 0;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_begin(seed);
        mr_sim_sync_lie(1000);
        mr_assert(world_go(100000));
        mr_sim_crash();
        struct mr_file file;
        uint64_t bytes = 0;
        for (int i = 0; i < ITEMS; i++) {
            char path[32];
            (void)snprintf(path, sizeof(path), "f/%d", i);
            mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
            mr_assert(mr_file_size(&file, &bytes) == MR_OK);
            lost += bytes < 7;
            mr_file_close(&file);
        }
        mr_sim_stop();
    }
    mr_assert(lost > 0);
}

int main(void)
{
    test_same_seed_same_run();
    test_a_crash_forgets_threads_and_keeps_what_was_synced();
    test_a_kill_keeps_what_was_written();
    test_a_lying_sync_loses();
    return 0;
}
