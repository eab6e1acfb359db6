/* broker_kit.h - a real broker on a real socket and a real journal.
 *
 * For test_broker*.c: a journal in a folder of its own (with threads, or by hand
 * so that a test decides when something is durable), a broker on 127.0.0.1 and
 * whatever the journal holds.  The clients are in broker_peer.h.
 *
 * Every wait has a limit after which the test fails; none is a pause.
 */
#ifndef MR_TEST_BROKER_KIT_H
#define MR_TEST_BROKER_KIT_H

#include "base/log.h"
#include "broker/broker.h"
#include "journal/reader.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/loop.h"
#include "os/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KIT_PATIENCE_S = 20 };

struct kit {
    char folder[256];
    struct mr_journal *journal;
    struct mr_lane *lane;
    struct mr_broker *broker;
    struct mr_listener_conf listener;
    const char *excluded[1];
};

struct kit_options {
    bool manual;
    uint64_t journal_bytes;
    uint32_t segment_bytes;
    uint32_t block_count;
    uint32_t lanes; /* hence shards; 0: 1 */
    uint64_t max_connections;
    const char *exclude;
    const char *bind;
    uint32_t allow_anonymous;
    uint64_t memory_bytes;
    uint64_t max_packet_size;
    uint64_t receive_maximum;
    uint64_t max_queued_messages;
    uint64_t connect_timeout_us;
    uint64_t max_keepalive_us;
    const char *password_file;
    struct mr_listener_tls tls;
};

static inline void kit_remove(void *arg, const char *name)
{
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, kit_remove, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static inline void kit_open(struct kit *kit, const struct kit_options *options)
{
    struct mr_recovery recovery;
    struct mr_error why = {.text = ""};
    const char *base = getenv("TMPDIR");

    *kit = (struct kit){0};
    mr_log_set_clock(mr_clock_wall_us);
    (void)snprintf(kit->folder, sizeof(kit->folder), "%s/mr-broker-XXXXXX",
                   base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(kit->folder) != NULL);
    struct mr_journal_options journal = {
        .path = kit->folder,
        .name = "test",
        .lane_count = options->lanes,
        .max_bytes = options->journal_bytes != 0 ? options->journal_bytes : 64 << 20,
        .segment_bytes = options->segment_bytes,
        .block_bytes = 256 << 10,
        .block_count = options->block_count != 0 ? options->block_count : 16,
        .record_bytes_max = options->segment_bytes != 0 ? options->segment_bytes / 4 : 2 << 20,
        .manual = options->manual,
    };
    if (mr_journal_open(&kit->journal, &journal, &recovery, &why) != MR_OK) {
        fprintf(stderr, "journal: %s\n", why.text);
        abort();
    }
    kit->lane = mr_journal_lane(kit->journal, 0);
    kit->listener = (struct mr_listener_conf){
        .name = "test",
        .bind = options->bind != NULL ? options->bind : "127.0.0.1:0",
        .allow_anonymous = options->allow_anonymous,
        .max_connections = options->max_connections,
        .tls = options->tls,
    };
    struct mr_broker_run run = {
        .journal = kit->journal,
        .listeners = &kit->listener,
        .listener_count = 1,
        .memory_bytes = options->memory_bytes,
        .auth = {.password_file = options->password_file},
        .limits = {.max_packet_size = options->max_packet_size ? options->max_packet_size : 1 << 20,
                   .receive_maximum = options->receive_maximum ? options->receive_maximum : 1000,
                   .max_inflight_messages = 20,
                   .max_queued_messages =
                       options->max_queued_messages ? options->max_queued_messages : 1000,
                   .max_queued_bytes = 16 << 20,
                   .max_topic_levels = 200,
                   .topic_alias_maximum = 10,
                   .max_keepalive_us = options->max_keepalive_us,
                   .connect_timeout_us =
                       options->connect_timeout_us ? options->connect_timeout_us : 10000000},
    };
    if (options->exclude != NULL) {
        kit->excluded[0] = options->exclude;
        run.journal_exclude = (struct mr_list){.items = kit->excluded, .count = 1};
    }
    if (mr_broker_open(&kit->broker, &run, &why) != MR_OK) {
        fprintf(stderr, "broker: %s\n", why.text);
        abort();
    }
    mr_assert(mr_broker_start(kit->broker, &why) == MR_OK);
}

static inline void kit_close(struct kit *kit)
{
    mr_broker_stop(kit->broker, 5000000000);
    mr_broker_close(kit->broker);
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
    mr_assert(mr_dir_list(kit->folder, kit_remove, kit->folder) == MR_OK);
    mr_assert(rmdir(kit->folder) == 0);
}

/* Fail if `deadline` (mono ns) has passed. */
static inline void kit_patience(int64_t deadline_ns, const char *what)
{
    if (mr_clock_mono_ns() > deadline_ns) {
        fprintf(stderr, "waited too long for %s\n", what);
        abort();
    }
}

static inline int64_t kit_deadline(void)
{
    return mr_clock_mono_ns() + KIT_PATIENCE_S * (int64_t)1000000000;
}

/* Commit by hand until `seq` is durable. */
static inline void kit_commit(struct kit *kit, uint64_t seq)
{
    int64_t deadline = kit_deadline();

    while (mr_lane_durable(kit->lane) < seq) {
        if (!mr_lane_step_commit(kit->lane)) {
            (void)usleep(200); /* sleep: until the shard hands it over */
        }
        mr_journal_step_keeper(kit->journal);
        kit_patience(deadline, "the shard to hand over a batch");
    }
}

/* ---- the journal's side ---- */

/* Read event `seq` and call check on it. */
static inline void kit_read(struct kit *kit, uint64_t seq,
                            void (*check)(const struct mr_event *event, void *arg), void *arg)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    struct mr_error why;
    bool found = false;

    mr_assert(mr_reader_open(&reader, kit->journal, 0, seq, &(struct mr_reader_options){0}, &why) ==
              MR_OK);
    while (!found && mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (!found && mr_view_event(&view, &at, &event)) {
            if (event.seq == seq) {
                check(&event, arg);
                found = true;
            }
        }
        mr_view_unpin(&view);
    }
    mr_assert(found);
    mr_reader_close(reader);
}

#endif
