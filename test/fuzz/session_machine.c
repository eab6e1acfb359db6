/* session_machine.c - see session_machine.h.
 *
 * The main thread of the machine starts the broker, does what it is told, and stops it; the
 * driver tells it and lets the threads take turns.
 */
#include "session_machine.h"

#include "../sim/world.h" /* what store_model.c wants of it */

#include "broker/gates_internal.h"
#include "broker/keep_internal.h"
#include "broker/retained.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOURNAL_BYTES = 4 << 20, TURNS_MAX = 1 << 20 };

struct plan plan; /* of syncs of the store that take time: none */
bool world_is_calm = true;

static struct {
    struct mr_thread *thread; /* NULL: there is none */
    struct mr_wake wake;
    struct mr_journal *journal;
    struct mr_broker *broker;
    void (*what)(void *arg); /* to be done; NULL: nothing */
    void *arg;
    bool ending;
} machine;

static struct mr_rng dice; /* of the configuration */
static struct mr_listener_conf listener;
static struct mr_broker_limits limits;
static uint32_t lanes;
static uint32_t checkpoint_ms;

uint64_t roll(uint64_t below)
{
    return mr_rng_below(&dice, below);
}

/* ---- the machine's main thread ---- */

static void start(void *arg)
{
    struct mr_error why = {.text = ""};
    struct mr_journal_options journal = {
        .path = "data/journal",
        .name = "journal",
        .lane_count = lanes,
        .max_bytes = (uint64_t)lanes * JOURNAL_BYTES,
        .segment_bytes = 64 << 10,
        .block_bytes = 16 << 10,
        .block_count = 8,
        .record_bytes_max = 8 << 10,
        .commit_delay_us_max = MR_COMMIT_AT_ONCE,
    };

    (void)arg;
    if (mr_dir_create("data", &why) != MR_OK ||
        mr_journal_open(&machine.journal, &journal, NULL, &why) != MR_OK) {
        broken("the journal does not open: %s", why.text);
    }
    struct mr_broker_run run = {
        .journal = machine.journal,
        .listeners = &listener,
        .listener_count = 1,
        .limits = limits,
        .sessions_path = "data/sessions",
        .checkpoint_ms = checkpoint_ms,
        .memory_bytes = (uint64_t)lanes * (16 << 20),
    };
    if (mr_broker_open(&machine.broker, &run, &why) != MR_OK ||
        mr_broker_start(machine.broker, &why) != MR_OK) {
        broken("the broker does not start: %s", why.text);
    }
}

static void stop(void *arg)
{
    (void)arg;
    mr_broker_stop(machine.broker, INT64_C(1000000000));
    mr_broker_close(machine.broker);
    if (mr_journal_close(machine.journal) != MR_OK) {
        broken("the journal does not close");
    }
    machine.ending = true;
}

static void machine_main(void *arg)
{
    struct mr_error why;

    (void)arg;
    mr_assert(mr_wake_open(&machine.wake, &why) == MR_OK);
    while (!machine.ending) {
        if (machine.what == NULL) {
            (void)mr_wake_wait(&machine.wake, -1);
            continue;
        }
        machine.what(machine.arg);
        machine.what = NULL;
    }
    mr_wake_close(&machine.wake);
}

/* ---- the driver ---- */

int64_t machine_now_ns(void)
{
    return mr_clock_mono_ns();
}

bool machine_run(void)
{
    for (uint32_t turns = 0;; turns++) {
        enum mr_sim_turn turn = mr_sim_turn();
        if (turn == MR_SIM_IDLE) {
            return turns != 0;
        }
        if (turn != MR_SIM_RAN) {
            broken("the machine ends by itself");
        }
        if (turns == TURNS_MAX) {
            broken("the broker is busy for ever");
        }
    }
}

int64_t machine_wait(void)
{
    int64_t now_ns = machine_now_ns();
    int64_t next_ns = mr_sim_next_ns();

    if (next_ns == INT64_MAX) {
        broken("nothing will ever happen again");
    }
    if (next_ns > now_ns) {
        mr_sim_advance(next_ns - now_ns);
    }
    (void)machine_run();
    return machine_now_ns() - now_ns;
}

static void machine_tell(void (*what)(void *arg), void *arg)
{
    machine.what = what;
    machine.arg = arg;
    (void)machine_run(); /* it may wait already, or not have begun */
    if (machine.what != NULL) {
        mr_wake_ring(&machine.wake);
    }
    for (int times = 0; machine.what != NULL; times++) {
        if (!machine_run()) {
            (void)machine_wait();
        }
        if (times == 100000) {
            broken("the machine's main thread hangs");
        }
    }
}

void machine_do(void (*what)(void *arg), void *arg)
{
    machine_tell(what, arg);
}

static void begin(void)
{
    machine.ending = false;
    mr_assert(mr_thread_start(&machine.thread, "main", machine_main, NULL, NULL) == MR_OK);
    machine_tell(start, NULL);
}

static void finish(void)
{
    machine_tell(stop, NULL);
    (void)machine_run();
    mr_thread_join(machine.thread);
    if (heap_blocks() != 0) {
        broken("a broker that was stopped has left %zu blocks of memory", heap_blocks());
    }
    mr_sim_kill(); /* what the end of a process closes */
}

void machine_restart(enum machine_end how)
{
    switch (how) {
    case MACHINE_STOP:
        finish();
        break;
    case MACHINE_KILL:
        mr_sim_kill();
        break;
    case MACHINE_POWER_CUT:
        mr_sim_crash();
        break;
    }
    heap_life_ends();
    begin();
}

void machine_open(uint64_t seed)
{
    mr_log_set_level(getenv("FUZZ_TELL") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_log_set_clock(mr_clock_wall_us);
    mr_rng_seed(&dice, seed);
    mr_sim_start(seed);
    lanes = 1 + (uint32_t)roll(2);
    checkpoint_ms = roll(2) == 0 ? 20 : 2000;
    listener = (struct mr_listener_conf){.name = "test", .bind = MACHINE_ADDRESS};
    limits = (struct mr_broker_limits){
        .max_packet_size = MACHINE_PACKET_MAX,
        .max_connect_size = MACHINE_PACKET_MAX,
        .receive_maximum = MACHINE_RECEIVE_MAX,
        .max_inflight_messages = 1 + roll(20),
        .max_queued_messages = 100,
        .max_queued_bytes = 1 << 20,
        .max_sessions = 1000,
        .max_retained_messages = MACHINE_RETAINED_MAX,
        .max_retained_bytes = 16 << 10,
        .max_topic_levels = 16,
        .max_topic_length = 1024,
        .max_clientid_len = 256,
        .max_subscriptions = 20,
        .packet_timeout_us = 10000000,
        .topic_alias_maximum = MACHINE_ALIASES,
        .max_topic_alias_broker = MACHINE_ALIASES_OUT,
        .overlapping = roll(2) == 0 ? MR_OVERLAPPING_EACH : MR_OVERLAPPING_MERGED,
        .validate_payload_format = roll(2) == 0,
        .response_information = roll(2) == 0 ? NULL : "answers/%c",
        .connect_timeout_us = 10000000,
        .max_session_expiry_us = roll(4) == 0 ? INT64_C(60000000) : 0,
    };
    begin();
}

void machine_close(void)
{
    finish();
    heap_life_ends();
    mr_sim_stop();
    store_model_end();
}

/* ---- what the broker holds ---- */

static uint64_t count_stored(const struct stored *first)
{
    uint64_t count = 0;

    for (; first != NULL; first = first->next) {
        count += 1;
    }
    return count;
}

void machine_look(struct machine_books *out)
{
    *out = (struct machine_books){.connections = 0};
    for (uint32_t i = 0; i < machine.broker->shard_count; i++) {
        const struct mr_shard *shard = machine.broker->shards[i];
        out->connections += mr_net_stats(shard->net)->open + mr_net_stats(shard->net)->lingering;
        out->sessions += shard->sessions_count;
        out->keeps += shard->keeps_count;
        out->subscriptions += atomic_load(&shard->stats.subscriptions);
        out->queued += shard->queued;
        out->kept += shard->kept_count;
        out->kept_bytes += shard->kept_bytes;
        out->retained += shard->retained_count;
        out->retained_bytes += shard->retained_bytes;
        out->waiting += gates_held(shard) + count_stored(shard->pending_first) +
                        count_stored(shard->wills_first) + count_stored(shard->shared_first);
        out->cleared += shard->cleared_count;
        out->lent += shard->pool.lent_bytes;
    }
}

void machine_sessions(const char *except, void (*each)(struct mr_span client_id))
{
    for (uint32_t i = 0; i < machine.broker->shard_count; i++) {
        const struct mr_shard *shard = machine.broker->shards[i];
        size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;
        for (size_t at = 0; at < slots; at++) {
            for (const struct session *s = shard->sessions[at]; s != NULL; s = s->table_next) {
                struct mr_span id = mr_span_make(s->text, s->id_len);
                if (id.len < strlen(except) || memcmp(id.at, except, strlen(except)) != 0) {
                    each(id);
                }
            }
        }
    }
}

static void retained_topic(void *arg, struct kept *kept)
{
    void (**each)(struct mr_span topic) = arg;
    struct mr_shard *shard = machine.broker->shards[0]; /* all have the same */
    struct mr_message message;

    if (kept_read(shard, kept, &message) != MR_OK) {
        broken("a retained message cannot be read");
    }
    (*each)(message.topic);
    kept_read_end(shard);
}

static void retained_list(void *arg)
{
    retained_each(machine.broker->shards[0], retained_topic, arg);
}

void machine_retained(void (*each)(struct mr_span topic))
{
    machine_do(retained_list, (void *)&each);
}

struct kick {
    struct mr_span client_id;
    bool found;
};

static void kick(void *arg)
{
    struct kick *who = arg;

    mr_assert(mr_broker_kick(machine.broker, who->client_id, &who->found) == MR_OK);
}

bool machine_kick(struct mr_span client_id)
{
    struct kick who = {.client_id = client_id};

    machine_do(kick, &who);
    return who.found;
}
