/* tap.c - `millrace tap FILTER...`: watch events arrive.
 *
 * It reads the journal's files and sleeps on their folders (inotify), so the
 * gateway neither knows nor pays.  It shows what has been written, which may be a
 * commit's length ahead of what is acknowledged.
 */
#include <inttypes.h>

#include "app/cli/show.h"
#include "codec/topic.h"
#include "os/loop.h"
#include "os/process.h"

enum { PATH_BYTES = 4096, LANES_MAX = 256 };

/* Some file systems (network, overlays) do not report changes; look then. */
static const int64_t look_again_ns = INT64_C(1000000000);

struct tap_lane {
    struct mr_walk *walk;
    int watch_fd; /* -1: not open */
    uint32_t lane;
};

struct tap {
    struct mr_cli *cli;
    struct tap_lane lanes[LANES_MAX];
    size_t lane_count;
    struct mr_loop *loop;
    struct mr_wake wake;
    bool wake_open;
    enum mr_show form;
    uint64_t left; /* events still to be shown */
};

static bool topic_wanted(const struct tap *tap, struct mr_span topic)
{
    for (size_t i = 0; i < mr_cli_argument_count(tap->cli); i++) {
        if (mr_topic_matches(mr_span_of(mr_cli_argument(tap->cli, i)), topic)) {
            return true;
        }
    }
    return false;
}

/* Show what a lane has now.  AGAIN: all of it; OK: it is time to end. */
static enum mr_err lane_show(struct tap *tap, struct tap_lane *lane, struct mr_error *why)
{
    for (;;) {
        struct mr_walk_event event;
        struct mr_walk_damage damage;
        enum mr_err err = mr_walk_next(lane->walk, &event, &damage, why);

        if (err == MR_ERR_CORRUPT) {
            mr_show_damage(tap->cli, lane->lane, &damage);
            continue;
        }
        if (err != MR_OK) {
            return err;
        }
        if (event.raw.type != MR_RECORD_EVENT && event.raw.type != MR_RECORD_DEAD_LETTER) {
            continue;
        }
        if (!topic_wanted(tap, event.topic)) {
            continue;
        }
        if (!mr_show_event(tap->cli, tap->form, &event)) {
            return MR_OK;
        }
        tap->left -= 1;
        if (tap->left == 0) {
            return MR_OK;
        }
    }
}

/* Sleep until something changed, or a signal. */
static void tap_wait(struct tap *tap)
{
    struct mr_ready ready[LANES_MAX];
    bool woken = false;
    size_t count =
        mr_loop_wait(tap->loop, ready, MR_COUNT_OF(ready), look_again_ns, &tap->wake, &woken);

    for (size_t i = 0; i < count; i++) { /* empty it, or it stays ready */
        (void)mr_watch_wait(tap->lanes[ready[i].tag].watch_fd, 0);
    }
}

static int tap_follow(struct tap *tap)
{
    struct mr_error why = {.text = ""};

    for (;;) {
        for (size_t i = 0; i < tap->lane_count; i++) {
            enum mr_err err = lane_show(tap, &tap->lanes[i], &why);
            if (err == MR_OK) {
                return MR_EXIT_OK;
            }
            if (err != MR_ERR_AGAIN) {
                return mr_cli_fail(tap->cli, mr_walk_exit(err), "%s", why.text);
            }
        }
        if (!mr_cli_flush(tap->cli) || (mr_signals_take() & MR_SIGNAL_TERMINATE) != 0) {
            return MR_EXIT_OK;
        }
        tap_wait(tap);
    }
}

/* Read to the end without showing anything: "now" is there. */
static enum mr_err lane_skip(struct tap_lane *lane, struct mr_error *why)
{
    struct mr_walk_event event;
    struct mr_walk_damage damage;
    enum mr_err err;

    do {
        err = mr_walk_next(lane->walk, &event, &damage, why);
    } while (err == MR_OK || err == MR_ERR_CORRUPT);
    mr_walk_from_here(lane->walk);
    return err == MR_ERR_AGAIN ? MR_OK : err;
}

/* Watch first, read then: what comes in between is not missed. */
static enum mr_err lane_open(struct tap *tap, const char *journal_path, uint32_t number,
                             struct mr_error *why)
{
    char path[PATH_BYTES];
    struct tap_lane *lane = &tap->lanes[tap->lane_count];
    bool from_now = !mr_cli_flag(tap->cli, "from-start") && !mr_cli_given(tap->cli, "from");
    uint64_t seq_from = from_now ? UINT64_MAX : mr_cli_number(tap->cli, "from");

    mr_walk_lane_path(journal_path, number, path, sizeof(path));
    *lane = (struct tap_lane){.watch_fd = -1, .lane = number};
    enum mr_err err = mr_walk_open(&lane->walk, path, seq_from, why);
    if (err != MR_OK) {
        return err;
    }
    tap->lane_count += 1;
    err = mr_watch_open(path, &lane->watch_fd, why);
    if (err != MR_OK) {
        lane->watch_fd = -1;
        return err;
    }
    err = mr_loop_add(tap->loop, lane->watch_fd, MR_READY_READ, tap->lane_count - 1);
    if (err != MR_OK) {
        return mr_error_set(why, err, "cannot wait for changes of %.400s", path);
    }
    return from_now ? lane_skip(lane, why) : MR_OK;
}

static enum mr_err tap_open(struct tap *tap, struct mr_error *why)
{
    enum mr_err err = mr_wake_open(&tap->wake, why);

    tap->wake_open = err == MR_OK;
    if (err == MR_OK) {
        err = mr_loop_open(&tap->loop, why);
    }
    if (err == MR_OK) {
        mr_signals_route(&tap->wake);
    }
    return err;
}

static enum mr_err lanes_open(struct tap *tap, const char *journal_path, struct mr_error *why)
{
    uint32_t *lanes = NULL;
    size_t count = 0;
    enum mr_err err = MR_OK;

    if (mr_walk_lanes(journal_path, &lanes, &count) != MR_OK) {
        return mr_error_set(why, MR_ERR_IO, "%.400s: cannot be listed", journal_path);
    }
    for (size_t i = 0; err == MR_OK && i < count && i < LANES_MAX; i++) {
        err = lane_open(tap, journal_path, lanes[i], why);
    }
    mr_free(lanes);
    return err;
}

static void tap_close(struct tap *tap)
{
    for (size_t i = 0; i < tap->lane_count; i++) {
        mr_walk_close(tap->lanes[i].walk);
        if (tap->lanes[i].watch_fd >= 0) {
            mr_watch_close(tap->lanes[i].watch_fd);
        }
    }
    if (tap->loop != NULL) {
        mr_loop_close(tap->loop);
    }
    if (tap->wake_open) {
        mr_signals_route(NULL);
        mr_wake_close(&tap->wake);
    }
}

static int filters_check(struct mr_cli *cli)
{
    for (size_t i = 0; i < mr_cli_argument_count(cli); i++) {
        const char *filter = mr_cli_argument(cli, i);
        const char *fault = mr_topic_filter_fault(mr_span_of(filter));
        if (fault != NULL) {
            return mr_cli_fail(cli, MR_EXIT_USAGE, "'%s' is not a topic filter: %s", filter, fault);
        }
    }
    return MR_EXIT_OK;
}

static enum mr_show tap_form(struct mr_cli *cli)
{
    if (mr_cli_flag(cli, "json")) {
        return MR_SHOW_JSON;
    }
    return mr_cli_verbose(cli) > 0 ? MR_SHOW_LINE : MR_SHOW_SHORT;
}

static int tap_run(struct mr_cli *cli)
{
    char journal_path[PATH_BYTES];
    struct mr_error why = {.text = ""};
    struct tap tap = {
        .cli = cli,
        .form = tap_form(cli),
        .left = mr_cli_given(cli, "count") ? mr_cli_number(cli, "count") : UINT64_MAX,
    };
    int code = filters_check(cli);

    if (code == MR_EXIT_OK) {
        code = mr_walk_journal_path(cli, journal_path, sizeof(journal_path));
    }
    if (code != MR_EXIT_OK) {
        return code;
    }
    if (tap_open(&tap, &why) != MR_OK) {
        code = mr_cli_fail(cli, MR_EXIT_IO, "%s", why.text);
    } else {
        enum mr_err err = lanes_open(&tap, journal_path, &why);
        code =
            err == MR_OK ? tap_follow(&tap) : mr_cli_fail(cli, mr_walk_exit(err), "%s", why.text);
    }
    tap_close(&tap);
    return code;
}

static const struct mr_cli_option tap_options[] = {
    {.name = "count",
     .letter = 'n',
     .type = MR_OPT_U64,
     .value = "COUNT",
     .min = 1,
     .help = "End after this many events."},
    {.name = "from", .type = MR_OPT_U64, .value = "SEQ", .help = "Begin at this record."},
    {.name = "from-start", .type = MR_OPT_BOOL, .help = "Begin at the oldest event kept."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per event."},
    {.name = NULL},
};

const struct mr_command mr_command_tap = {
    .name = "tap",
    .group = "Look",
    .summary = "print events as they arrive",
    .arguments = "FILTER...",
    .help = "FILTER is an MQTT topic filter: 'plant/+/temp', 'sensors/#', '#'.\n"
            "Prints topic and payload; with -v lane, seq, time, client, topic, QoS, payload.\n"
            "Ctrl-C ends it.\n\n"
            "Example:\n"
            "  millrace tap --data /var/lib/millrace --json 'sensors/#' | jq .payload\n",
    .options = tap_options,
    .arguments_min = 1,
    .arguments_max = UINT32_MAX,
    .run = tap_run,
};
