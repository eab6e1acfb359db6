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
#include "journal/cursor.h"
#include "journal/reader.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/loop.h"
#include "os/process.h"
#include "os/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KIT_PATIENCE_S = 60 };

struct kit_options {
    bool manual;
    bool no_store; /* sessions live in the journal alone */
    uint32_t checkpoint_ms;
    uint64_t journal_bytes;
    uint32_t segment_bytes;
    uint32_t block_count;
    bool refuse_when_full;
    uint32_t lanes; /* hence shards; 0: 1 */
    uint64_t max_connections;
    const char *exclude;
    const char *bind;
    uint32_t allow_anonymous;
    uint64_t memory_bytes;
    uint64_t max_packet_size;
    uint64_t receive_maximum;
    uint64_t max_queued_messages;
    uint64_t max_sessions;
    uint64_t max_retained_messages;
    uint64_t max_retained_bytes;
    uint64_t max_session_expiry_us;
    uint64_t connect_timeout_us;
    uint64_t max_keepalive_us;
    uint32_t overlapping;
    uint64_t topic_aliases; /* of the gateway */
    bool validate_payload_format;
    const char *response_information;
    const char *server_reference;
    const char *password_file;
    const char *acl_file;
    const char *login_url; /* of a service that is asked (login_service.h) */
    const char *client_id_pattern;
    uint32_t session_takeover;
    bool use_username_as_clientid;
    struct mr_listener_tls tls;
    const char *ack;    /* of the listener */
    const char *bridge; /* there is one of this name, which carries what `from` matches */
    const char *from;
};

struct kit {
    char folder[256];
    char sessions[300];
    struct kit_options options;
    struct mr_journal *journal;
    struct mr_lane *lane;
    struct mr_broker *broker;
    struct mr_listener_conf listener;
    struct mr_broker_limits limits;
    const char *excluded[1];
    const char *from[1];
    struct mr_broker_bridge bridge;
    struct mr_cursor *cursor; /* of the bridge in lane 0 */
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

static inline _Noreturn void kit_fail(const char *what, const struct mr_error *why)
{
    fprintf(stderr, "%s: %s\n", what, why->text);
    abort();
}

/* A cursor for the bridge, in each lane; whoever wants something settled sets it. */
static inline void kit_bridge(struct kit *kit)
{
    const char *name = kit->options.bridge;
    bool is_new = false;

    if (name == NULL) {
        return;
    }
    kit->bridge.name = name;
    if (kit->options.from != NULL) {
        kit->from[0] = kit->options.from;
        kit->bridge.from = (struct mr_list){.items = kit->from, .count = 1};
    }
    for (uint32_t lane = mr_journal_lane_count(kit->journal); lane-- > 0;) {
        mr_assert(mr_cursor_open(kit->journal, name, lane, MR_START_OLDEST, &kit->cursor, &is_new,
                                 NULL) == MR_OK);
    }
}

/* What `options` say of limits, and what suits tests for the rest. */
static inline struct mr_broker_limits kit_limits(const struct kit_options *options)
{
    return (struct mr_broker_limits){
        .max_packet_size = options->max_packet_size ? options->max_packet_size : 1 << 20,
        .max_connect_size = 128 << 10,
        .receive_maximum = options->receive_maximum ? options->receive_maximum : 1000,
        .max_inflight_messages = 20,
        .max_queued_messages = options->max_queued_messages ? options->max_queued_messages : 1000,
        .max_queued_bytes = 16 << 20,
        .max_sessions = options->max_sessions ? options->max_sessions : 100000,
        .max_session_expiry_us = options->max_session_expiry_us,
        .max_retained_messages =
            options->max_retained_messages ? options->max_retained_messages : 10000,
        .max_retained_bytes = options->max_retained_bytes ? options->max_retained_bytes : 16 << 20,
        .max_topic_levels = 200,
        .topic_alias_maximum = 10,
        .max_topic_alias_broker = options->topic_aliases,
        .overlapping = options->overlapping,
        .validate_payload_format = options->validate_payload_format,
        .response_information = options->response_information,
        .server_reference = options->server_reference,
        .max_keepalive_us = options->max_keepalive_us,
        .connect_timeout_us = options->connect_timeout_us ? options->connect_timeout_us : 10000000};
}

static inline void kit_journal(struct kit *kit)
{
    const struct kit_options *options = &kit->options;
    struct mr_recovery recovery;
    struct mr_error why = {.text = ""};
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
        .when_full = options->refuse_when_full ? MR_WHEN_FULL_REFUSE : MR_WHEN_FULL_HOLD,
    };
    if (mr_journal_open(&kit->journal, &journal, &recovery, &why) != MR_OK) {
        kit_fail("journal", &why);
    }
    kit->lane = mr_journal_lane(kit->journal, 0);
}

/* The broker on kit->journal; not started.  Results as mr_broker_open(). */
static inline enum mr_err kit_broker(struct kit *kit, struct mr_error *why)
{
    const struct kit_options *options = &kit->options;

    kit_bridge(kit);
    kit->listener = (struct mr_listener_conf){
        .name = "test",
        .bind = options->bind != NULL ? options->bind : "127.0.0.1:0",
        .allow_anonymous = options->allow_anonymous,
        .max_connections = options->max_connections,
        .tls = options->tls,
        .ack = options->ack,
        .auth = {.password_file = options->password_file,
                 .acl_file = options->acl_file,
                 .http = {.url = options->login_url,
                          .request_timeout_us = 60000000,
                          .max_requests = 8},
                 .client_id_pattern = options->client_id_pattern,
                 .session_takeover = options->session_takeover,
                 .use_username_as_clientid = options->use_username_as_clientid},
    };
    (void)snprintf(kit->sessions, sizeof(kit->sessions), "%s/sessions", kit->folder);
    kit->limits = kit_limits(options);
    struct mr_broker_run run = {
        .journal = kit->journal,
        .listeners = &kit->listener,
        .listener_count = 1,
        .bridges = &kit->bridge,
        .bridge_count = options->bridge != NULL ? 1 : 0,
        .memory_bytes = options->memory_bytes,
        .refuse_when_full = options->refuse_when_full,
        .checkpoint_ms = options->checkpoint_ms,
        .sessions_path = options->no_store ? NULL : kit->sessions,
        .limits = kit->limits,
    };
    if (options->exclude != NULL) {
        kit->excluded[0] = options->exclude;
        run.journal_exclude = (struct mr_list){.items = kit->excluded, .count = 1};
    }
    return mr_broker_open(&kit->broker, &run, why);
}

/* Journal and broker on what lies in kit->folder; not started. */
static inline void kit_ready(struct kit *kit)
{
    struct mr_error why = {.text = ""};

    kit_journal(kit);
    if (kit_broker(kit, &why) != MR_OK) {
        kit_fail("broker", &why);
    }
}

/* The same configuration again, with its files as they are now. */
static inline enum mr_err kit_reload(struct kit *kit, struct mr_error *why)
{
    const struct mr_listener_conf *const listeners[] = {&kit->listener};
    const struct mr_broker_reloaded now = {.listeners = listeners, .limits = kit->limits};

    return mr_broker_reload(kit->broker, &now, why);
}

static inline void kit_begin(struct kit *kit)
{
    struct mr_error why = {.text = ""};

    kit_ready(kit);
    mr_assert(mr_broker_start(kit->broker, &why) == MR_OK);
}

static inline void kit_folder(struct kit *kit)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(kit->folder, sizeof(kit->folder), "%s/mr-broker-XXXXXX",
                   base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(kit->folder) != NULL);
}

static inline void kit_open(struct kit *kit, const struct kit_options *options)
{
    *kit = (struct kit){.options = *options};
    mr_log_set_clock(mr_clock_wall_us);
    kit_folder(kit);
    kit_begin(kit);
}

static inline void kit_end(struct kit *kit, int64_t patience_ns)
{
    mr_broker_stop(kit->broker, patience_ns);
    mr_broker_close(kit->broker);
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
}

static inline void kit_close(struct kit *kit)
{
    kit_end(kit, 5000000000);
    mr_assert(mr_dir_list(kit->folder, kit_remove, kit->folder) == MR_OK);
    mr_assert(rmdir(kit->folder) == 0);
}

/* ---- a crash ---- */

/* A file went, or got another name, while its folder was copied: the copy is of no moment. */
static bool kit_copy_torn;

/* Copy a file byte for byte. */
static inline void kit_copy_file(const char *from, const char *to)
{
    static uint8_t bytes[1 << 16];
    FILE *in = fopen(from, "rb");
    size_t got;

    if (in == NULL) {
        kit_copy_torn = true;
        return;
    }
    FILE *out = fopen(to, "wb");
    mr_assert(out != NULL);
    while ((got = fread(bytes, 1, sizeof(bytes), in)) != 0) {
        mr_assert(fwrite(bytes, 1, got, out) == got);
    }
    mr_assert(fclose(out) == 0 && fclose(in) == 0);
}

struct kit_copying {
    const char *from;
    const char *to;
};

static inline void kit_ignore(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

static inline void kit_copy(void *arg, const char *name)
{
    const struct kit_copying *copying = arg;
    char from[1024];
    char to[1024];
    struct kit_copying below = {from, to};

    (void)snprintf(from, sizeof(from), "%s/%s", copying->from, name);
    (void)snprintf(to, sizeof(to), "%s/%s", copying->to, name);
    if (strcmp(name, "LOCK") == 0 || strcmp(name, "lock.mdb") == 0) {
        return;
    }
    if (mr_dir_list(from, kit_ignore, NULL) == MR_OK) { /* it is a folder */
        mr_assert(mr_dir_create(to, NULL) == MR_OK);
        mr_assert(mr_dir_list(from, kit_copy, &below) == MR_OK);
    } else {
        kit_copy_file(from, to);
    }
}

static inline void kit_store_head(const struct kit *kit, uint8_t head[8192])
{
    memset(head, 0, 8192);
    for (uint32_t lane = 0; lane < 16; lane++) {
        uint8_t one[8192];
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/lane-%02u/data.mdb", kit->sessions, lane);
        FILE *file = fopen(path, "rb");
        if (file != NULL) {
            size_t got = fread(one, 1, sizeof(one), file);
            for (size_t i = 0; i < got; i++) {
                head[i] = (uint8_t)(head[i] * 31 + one[i]);
            }
            fclose(file);
        }
    }
}

/* What is handed over is committed, until it is told to end. */
struct kit_committing {
    struct kit *kit;
    _Atomic bool ends;
};

static inline void kit_commit_on(void *arg)
{
    struct kit_committing *committing = arg;
    struct mr_journal *journal = committing->kit->journal;

    while (!atomic_load(&committing->ends)) {
        for (uint32_t lane = 0; lane < mr_journal_lane_count(journal); lane++) {
            (void)mr_lane_step_commit(mr_journal_lane(journal, lane));
        }
        (void)usleep(200); /* sleep: until a shard hands something over */
    }
}

/* Of no moment any more.  A stop waits for what it appends, if only for a while, so it is committed
 * meanwhile where that is done by hand.
 */
static inline void kit_drop(struct kit *kit)
{
    struct kit_committing committing = {.kit = kit};
    struct mr_thread *thread = NULL;
    struct mr_error why = {.text = ""};

    mr_assert(!kit->options.manual ||
              mr_thread_start(&thread, "commits", kit_commit_on, &committing, &why) == MR_OK);
    mr_broker_stop(kit->broker, 0);
    atomic_store(&committing.ends, true);
    if (thread != NULL) {
        mr_thread_join(thread);
    }
    mr_broker_close(kit->broker);
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
    mr_assert(mr_dir_list(kit->folder, kit_remove, kit->folder) == MR_OK);
    mr_assert(rmdir(kit->folder) == 0);
}

/* The machine stops now; kit_begin() goes on from what the disk has, with a new broker.  Peers of
 * the old one find their connections ended.  The store is copied between two of its transactions,
 * as it would be found after a crash.
 */
static inline void kit_stop_dead(struct kit *kit)
{
    struct kit after = {.options = kit->options};
    uint8_t before[8192];
    uint8_t now[8192];

    kit_folder(&after);
    do {
        mr_assert(mr_dir_list(after.folder, kit_remove, after.folder) == MR_OK);
        kit_copy_torn = false;
        kit_store_head(kit, before);
        mr_assert(mr_dir_list(kit->folder, kit_copy,
                              &(struct kit_copying){kit->folder, after.folder}) == MR_OK);
        kit_store_head(kit, now);
    } while (kit_copy_torn || memcmp(before, now, sizeof(now)) != 0);
    kit_drop(kit);
    *kit = after;
}

static inline void kit_crash(struct kit *kit)
{
    kit_stop_dead(kit);
    kit_begin(kit);
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
