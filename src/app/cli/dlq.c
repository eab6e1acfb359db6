/* dlq.c - `millrace dlq ls | show | retry | drop`: what could not be delivered.
 *
 * ls and show read the files of the dead letters, beside a running gateway and without
 * one.  retry and drop choose the letters here and have the gateway do it: it owns the
 * files, and the journal that a retried letter is appended to.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "app/cli/ask.h"
#include "app/cli/show.h"
#include "codec/topic.h"
#include "journal/cursor.h"
#include "os/file.h"

enum { PATH_BYTES = 4096, NAMES_MAX = 1024, REASONS_MAX = 8, REASON_BYTES = 256 };

/* Letters to ask for in one request: the URL has a bound. */
enum { TARGET_BYTES = 6 << 10, RANGES_PER_REQUEST = 500 };

/* So many need seconds at most, also on a disk that rotates: other commands wait meanwhile, and we
 * wait for half a minute (ask.c).
 */
enum { LETTERS_PER_REQUEST = 20000 };

struct range {
    uint64_t first;
    uint64_t last;
};

/* The letters of one bridge. */
struct box {
    struct mr_cli *cli;
    const char *name;
    char path[PATH_BYTES]; /* its journal */
    struct range *done;    /* struck out */
    size_t done_count;
    uint64_t passed; /* the cursor: everything up to it has been taken out */
};

/* ---- the folder ---- */

struct names {
    char *items[NAMES_MAX];
    size_t count;
};

static void name_found(void *arg, const char *name)
{
    struct names *names = arg;

    if (name[0] != '.' && names->count < NAMES_MAX) {
        names->items[names->count] = mr_strdup(name);
        names->count += 1;
    }
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        mr_free(names->items[i]);
    }
}

/* There is no folder of dead letters: is it a gateway's folder all the same, and may we look? */
static int none_at_all(struct mr_cli *cli, const char *data)
{
    char meta[PATH_BYTES];
    struct mr_text text = mr_text_over(meta, sizeof(meta));
    int code = mr_walk_may_look(cli, data);

    mr_text_fmt(&text, "%s/journal/meta", data);
    if (code != MR_EXIT_OK || mr_path_exists(meta)) {
        return code;
    }
    return mr_cli_fail(cli, MR_EXIT_NO_INPUT,
                       "there is no journal in %s; name the gateway's data folder with --data",
                       data);
}

/* Bridges that have a folder of letters. */
static int names_list(struct mr_cli *cli, struct names *names)
{
    const char *data = mr_cli_data_path(cli);
    char path[PATH_BYTES];
    struct mr_text text = mr_text_over(path, sizeof(path));

    names->count = 0;
    if (data == NULL) {
        return MR_EXIT_CONFIG;
    }
    mr_text_fmt(&text, "%s/dead-letters", data);
    if (!mr_path_exists(path)) {
        return none_at_all(cli, data);
    }
    if (mr_dir_list(path, name_found, names) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s: cannot be listed: %s", path, mr_file_last_cause());
    }
    qsort(names->items, names->count, sizeof(names->items[0]), name_order);
    return MR_EXIT_OK;
}

/* ---- a box ---- */

static void cursor_found(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)name;
    (void)lane;
    *(uint64_t *)arg = seq;
}

static void done_add(struct box *box, struct mr_span body)
{
    struct mr_take take = mr_take_from(body);

    while (mr_take_left(&take) != 0 && !take.failed) {
        uint64_t first = mr_take_varint(&take);
        uint64_t count = mr_take_varint(&take);
        if (!take.failed && count != 0) {
            box->done = mr_realloc(box->done, (box->done_count + 1) * sizeof(*box->done));
            box->done[box->done_count] = (struct range){first, first + count - 1};
            box->done_count += 1;
        }
    }
}

static bool is_done(const struct box *box, uint64_t seq)
{
    if (seq <= box->passed) {
        return true;
    }
    for (size_t i = 0; i < box->done_count; i++) {
        if (seq >= box->done[i].first && seq <= box->done[i].last) {
            return true;
        }
    }
    return false;
}

/* Call `each` for every record from `from` on; false from it ends the walk. */
static int box_walk(struct box *box, uint64_t from, bool say_damage,
                    bool (*each)(struct box *box, const struct mr_walk_event *event, void *arg),
                    void *arg)
{
    char lane_path[PATH_BYTES];
    struct mr_walk *walk = NULL;
    struct mr_walk_event event;
    struct mr_walk_damage damage;
    struct mr_error why;
    int code = MR_EXIT_OK;
    enum mr_err err = MR_OK;
    bool torn = false;

    mr_walk_lane_path(box->path, 0, lane_path, sizeof(lane_path));
    if (mr_walk_open(&walk, lane_path, from, &why) != MR_OK) {
        return MR_EXIT_OK; /* made, and nothing in it yet */
    }
    while (err == MR_OK || err == MR_ERR_CORRUPT) {
        err = mr_walk_next(walk, &event, &damage, &why);
        if (err == MR_ERR_AGAIN) { /* letters may stand behind damage in the newest segment too */
            err = mr_walk_tail(walk, &damage, &torn, &why);
        }
        if (err == MR_ERR_CORRUPT && say_damage) {
            mr_show_damage(box->cli, 0, &damage);
            code = MR_EXIT_FAILED;
        } else if (err == MR_OK && !each(box, &event, arg)) {
            break;
        }
    }
    if (err != MR_OK && err != MR_ERR_AGAIN) {
        code = mr_cli_fail(box->cli, mr_walk_exit(err), "%s", why.text);
    }
    mr_walk_close(walk);
    return code;
}

static bool find_done(struct box *box, const struct mr_walk_event *event, void *arg)
{
    (void)arg;
    if (event->raw.type == MR_RECORD_LETTERS_DONE) {
        done_add(box, event->raw.body);
    }
    return true;
}

static void box_close(struct box *box)
{
    mr_free(box->done);
    box->done = NULL;
}

/* 66: there are no letters of that name. */
static int box_open(struct mr_cli *cli, struct box *box, const char *name)
{
    const char *data = mr_cli_data_path(cli);
    struct mr_text text = mr_text_over(box->path, sizeof(box->path));
    struct mr_journal *journal = NULL;
    struct mr_error why;

    *box = (struct box){.cli = cli, .name = name};
    if (data == NULL) {
        return MR_EXIT_CONFIG;
    }
    mr_text_fmt(&text, "%s/dead-letters/%s", data, name);
    const struct mr_journal_options options = {
        .path = box->path, .name = "dead letters", .read_only = true, .cursors_only = true};
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL ||
        !mr_path_exists(box->path)) {
        int code = mr_walk_may_look(cli, data);
        return code != MR_EXIT_OK
                   ? code
                   : mr_cli_fail(
                         cli, MR_EXIT_NO_INPUT,
                         "there are no dead letters of '%s'; `millrace dlq ls` lists what there "
                         "is",
                         name);
    }
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);
    if (err != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s", why.text);
    }
    mr_cursor_list(journal, cursor_found, &box->passed);
    (void)mr_journal_close(journal);
    return box_walk(box, box->passed + 1, false, find_done, NULL);
}

/* ---- choosing ---- */

static bool contains(struct mr_span text, const char *part)
{
    size_t len = strlen(part);

    return len == 0 || (text.len >= len && memmem(text.at, text.len, part, len) != NULL);
}

/* Is it a letter that is still there, and does it match the options and arguments? */
static bool is_wanted(const struct box *box, const struct mr_walk_event *event)
{
    struct mr_cli *cli = box->cli;
    const char *topic = mr_cli_text(cli, "topic");
    const char *client = mr_cli_text(cli, "client");
    const char *reason = mr_cli_text(cli, "reason");
    bool named = mr_cli_argument_count(cli) < 2;

    if (event->raw.type != MR_RECORD_DEAD_LETTER || is_done(box, event->seq) ||
        (topic != NULL && !mr_topic_matches(mr_span_of(topic), event->topic)) ||
        (client != NULL && !mr_span_is(event->client, client)) ||
        (reason != NULL && !contains(event->raw.dead_reason, reason))) {
        return false;
    }
    for (size_t i = 1; i < mr_cli_argument_count(cli); i++) {
        uint64_t seq = 0;
        named = named ||
                (mr_parse_u64(mr_span_of(mr_cli_argument(cli, i)), UINT64_MAX, &seq) == MR_OK &&
                 seq == event->seq);
    }
    return named;
}

/* Arguments behind the bridge's name are numbers of letters. */
static int check_choice(struct mr_cli *cli)
{
    const char *topic = mr_cli_text(cli, "topic");
    const char *fault = topic == NULL ? NULL : mr_topic_filter_fault(mr_span_of(topic));

    if (fault != NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "--topic '%s' is no topic filter: %s", topic, fault);
    }
    for (size_t i = 1; i < mr_cli_argument_count(cli); i++) {
        uint64_t seq = 0;
        if (mr_parse_u64(mr_span_of(mr_cli_argument(cli, i)), UINT64_MAX, &seq) != MR_OK) {
            return mr_cli_fail(cli, MR_EXIT_USAGE,
                               "'%s' is no number of a letter; `millrace dlq show %s` lists them",
                               mr_cli_argument(cli, i), mr_cli_argument(cli, 0));
        }
    }
    return MR_EXIT_OK;
}

/* ---- ls ---- */

struct summary {
    uint64_t count;
    int64_t oldest_us; /* receive times of the events */
    int64_t newest_us;
    struct {
        char text[REASON_BYTES];
        uint64_t count;
    } reasons[REASONS_MAX];
    size_t reason_count;
    uint64_t other; /* with further reasons */
};

static void summary_reason(struct summary *summary, struct mr_span reason)
{
    for (size_t i = 0; i < summary->reason_count; i++) {
        if (mr_span_is(reason, summary->reasons[i].text)) {
            summary->reasons[i].count += 1;
            return;
        }
    }
    if (summary->reason_count == REASONS_MAX) {
        summary->other += 1;
        return;
    }
    struct mr_text text = mr_text_over(summary->reasons[summary->reason_count].text, REASON_BYTES);
    mr_text_span(&text, reason);
    summary->reasons[summary->reason_count].count = 1;
    summary->reason_count += 1;
}

static bool summary_add(struct box *box, const struct mr_walk_event *event, void *arg)
{
    struct summary *summary = arg;

    if (event->raw.type != MR_RECORD_DEAD_LETTER || is_done(box, event->seq)) {
        return true;
    }
    int64_t time_us = event->raw.received_us;
    summary->oldest_us =
        summary->count == 0 || time_us < summary->oldest_us ? time_us : summary->oldest_us;
    summary->newest_us =
        summary->count == 0 || time_us > summary->newest_us ? time_us : summary->newest_us;
    summary->count += 1;
    summary_reason(summary, event->raw.dead_reason);
    return true;
}

static const char *time_text(int64_t time_us, char *buffer, size_t size)
{
    struct mr_text text = mr_text_over(buffer, size);

    mr_text_time_us(&text, time_us);
    return buffer;
}

static void ls_json(struct mr_cli *cli, const char *name, const struct summary *summary)
{
    char oldest[40];
    char newest[40];

    (void)mr_cli_out(cli, "{\"bridge\":");
    (void)mr_cli_out_json(cli, name, strlen(name));
    (void)mr_cli_out(cli, ",\"count\":%" PRIu64, summary->count);
    if (summary->count != 0) {
        (void)mr_cli_out(cli, ",\"oldest\":\"%s\",\"newest\":\"%s\"",
                         time_text(summary->oldest_us, oldest, sizeof(oldest)),
                         time_text(summary->newest_us, newest, sizeof(newest)));
    }
    (void)mr_cli_out(cli, ",\"reasons\":[");
    for (size_t i = 0; i < summary->reason_count; i++) {
        (void)mr_cli_out(cli, "%s{\"reason\":", i == 0 ? "" : ",");
        (void)mr_cli_out_json(cli, summary->reasons[i].text, strlen(summary->reasons[i].text));
        (void)mr_cli_out(cli, ",\"count\":%" PRIu64 "}", summary->reasons[i].count);
    }
    (void)mr_cli_out(cli, "],\"other\":%" PRIu64 "}\n", summary->other);
}

static void ls_text(struct mr_cli *cli, const char *name, const struct summary *summary)
{
    char oldest[40];
    char newest[40];

    (void)mr_cli_out(cli, "%-20s  %10" PRIu64 "  %.19s  %.19s\n", name, summary->count,
                     time_text(summary->oldest_us, oldest, sizeof(oldest)),
                     time_text(summary->newest_us, newest, sizeof(newest)));
    for (size_t i = 0; i < summary->reason_count; i++) {
        (void)mr_cli_out(cli, "%-20s  %10" PRIu64 "  ", "", summary->reasons[i].count);
        (void)mr_show_text(cli, mr_span_of(summary->reasons[i].text));
        (void)mr_cli_out(cli, "\n");
    }
    if (summary->other != 0) {
        (void)mr_cli_out(cli, "%-20s  %10" PRIu64 "  other reasons\n", "", summary->other);
    }
}

static int ls_run(struct mr_cli *cli)
{
    struct names *names = mr_alloc(sizeof(*names));
    struct summary *summary = mr_alloc(sizeof(*summary));
    uint64_t all = 0;
    int code = names_list(cli, names);

    for (size_t i = 0; i < names->count; i++) {
        struct box box;
        memset(summary, 0, sizeof(*summary));
        int opened = box_open(cli, &box, names->items[i]);
        int walked = opened == MR_EXIT_OK
                         ? box_walk(&box, box.passed + 1, true, summary_add, summary)
                         : opened;
        code = walked > code ? walked : code; /* what is wrong with one box, hides no other */
        box_close(&box);
        if (opened != MR_EXIT_OK) {
            continue;
        }
        if (mr_cli_flag(cli, "json")) {
            ls_json(cli, names->items[i], summary);
        } else if (summary->count != 0) {
            if (all == 0) {
                (void)mr_cli_out(cli, "%-20s  %10s  %-19s  %-19s\n", "BRIDGE", "LETTERS",
                                 "OLDEST (UTC)", "NEWEST");
            }
            ls_text(cli, names->items[i], summary);
        }
        all += summary->count;
    }
    if (code == MR_EXIT_OK && all == 0 && !mr_cli_flag(cli, "json")) {
        mr_cli_note(cli, "there are no dead letters");
    }
    names_free(names);
    mr_free(names);
    mr_free(summary);
    return code;
}

/* ---- show ---- */

static bool show_letter(struct box *box, const struct mr_walk_event *event, void *arg)
{
    uint64_t *count = arg;

    if (!is_wanted(box, event)) {
        return true;
    }
    *count += 1;
    return mr_show_event(box->cli, mr_cli_flag(box->cli, "json") ? MR_SHOW_JSON : MR_SHOW_LINE,
                         event);
}

static int show_run(struct mr_cli *cli)
{
    struct box box = {0};
    uint64_t count = 0;
    int code = check_choice(cli);

    if (code == MR_EXIT_OK) {
        code = box_open(cli, &box, mr_cli_argument(cli, 0));
    }
    if (code == MR_EXIT_OK) {
        code = box_walk(&box, box.passed + 1, true, show_letter, &count);
        if (code == MR_EXIT_OK && count == 0) {
            mr_cli_note(cli, "'%s' has no such dead letters", box.name);
        }
    }
    box_close(&box);
    return code;
}

/* ---- retry, drop ---- */

struct chosen {
    struct range *ranges;
    size_t count;
    uint64_t letters;
    uint64_t last_seen; /* the last letter that is still there; chosen or not */
};

/* A range holds nothing but letters that were chosen. */
static bool choose(struct box *box, const struct mr_walk_event *event, void *arg)
{
    struct chosen *chosen = arg;

    if (event->raw.type != MR_RECORD_DEAD_LETTER || is_done(box, event->seq)) {
        return true;
    }
    if (is_wanted(box, event)) {
        struct range *last = chosen->count == 0 ? NULL : &chosen->ranges[chosen->count - 1];
        if (last != NULL && last->last == chosen->last_seen && event->seq == last->last + 1 &&
            event->seq - last->first < LETTERS_PER_REQUEST) {
            last->last = event->seq;
        } else {
            chosen->ranges =
                mr_realloc(chosen->ranges, (chosen->count + 1) * sizeof(*chosen->ranges));
            chosen->ranges[chosen->count] = (struct range){event->seq, event->seq};
            chosen->count += 1;
        }
        chosen->letters += 1;
    }
    chosen->last_seen = event->seq;
    return true;
}

/* One request, of the ranges from *from on as far as they fit. */
static int request(struct box *box, const char *verb, const struct chosen *chosen, size_t *from,
                   uint64_t *done)
{
    char target[TARGET_BYTES + 1024];
    uint64_t letters = 0;
    struct mr_text text = mr_text_over(target, sizeof(target));
    struct mr_answer answer;

    mr_text_fmt(&text, "dead-letters/%s?name=", verb);
    mr_ask_escape(&text, mr_span_of(box->name));
    mr_text_add(&text, "&letters=");
    for (size_t i = 0; i < RANGES_PER_REQUEST && *from < chosen->count && text.len < TARGET_BYTES;
         i++) {
        const struct range *range = &chosen->ranges[*from];
        letters += range->last - range->first + 1;
        if (i != 0 && letters > LETTERS_PER_REQUEST) {
            break;
        }
        mr_text_fmt(&text, "%s%" PRIu64 "-%" PRIu64, i == 0 ? "" : ",", range->first, range->last);
        *from += 1;
    }
    int code = mr_ask(box->cli, "POST", target, &answer);
    *done += code == MR_EXIT_OK ? mr_answer_u64(answer.json, "count") : answer.count;
    mr_answer_free(&answer);
    return code;
}

static int handle(struct mr_cli *cli, const char *verb, const char *past)
{
    struct box box = {0};
    struct chosen chosen = {0};
    uint64_t done = 0;
    size_t from = 0;
    int code = check_choice(cli);

    if (code == MR_EXIT_OK) {
        code = box_open(cli, &box, mr_cli_argument(cli, 0));
    }
    if (code == MR_EXIT_OK) {
        code = box_walk(&box, box.passed + 1, true, choose, &chosen);
    }
    if (code <= MR_EXIT_FAILED && box.cli != NULL) {
        if (chosen.letters == 0) {
            mr_cli_note(cli, "'%s' has no such dead letters", box.name);
        } else if (!mr_cli_flag(cli, "yes")) {
            (void)mr_cli_out(cli, "would %s %" PRIu64 " dead letters of '%s'\n", verb,
                             chosen.letters, box.name);
            mr_cli_note(cli, "nothing was changed; add --yes to do it");
        } else {
            while (from < chosen.count && code <= MR_EXIT_FAILED) {
                code = request(&box, verb, &chosen, &from, &done);
            }
            (void)mr_cli_out(cli, "%s %" PRIu64 " of %" PRIu64 " dead letters of '%s'\n", past,
                             done, chosen.letters, box.name);
        }
    }
    mr_free(chosen.ranges);
    box_close(&box);
    return code;
}

static int retry_run(struct mr_cli *cli)
{
    return handle(cli, "retry", "retried");
}

static int drop_run(struct mr_cli *cli)
{
    return handle(cli, "drop", "dropped");
}

/* ---- tables ---- */

static const struct mr_cli_option ls_options[] = {
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per bridge."},
    {.name = NULL},
};

#define CHOICE_OPTIONS                                                                         \
    {.name = "topic",                                                                          \
     .letter = 't',                                                                            \
     .type = MR_OPT_STR,                                                                       \
     .value = "FILTER",                                                                        \
     .help = "Only letters whose MQTT topic matches."},                                        \
        {.name = "client", .type = MR_OPT_STR, .value = "ID", .help = "Only of this client."}, \
        {.name = "reason",                                                                     \
         .type = MR_OPT_STR,                                                                   \
         .value = "TEXT",                                                                      \
         .help = "Only letters whose reason contains this."}

static const struct mr_cli_option show_options[] = {
    CHOICE_OPTIONS,
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per letter."},
    {.name = NULL},
};

static const struct mr_cli_option handle_options[] = {
    CHOICE_OPTIONS,
    {.name = "yes", .type = MR_OPT_BOOL, .help = "Do it; without this it only says what it would."},
    {.name = NULL},
};

static const struct mr_command command_ls = {
    .name = "ls",
    .summary = "count the dead letters of each bridge, by reason",
    .options = ls_options,
    .run = ls_run,
};

static const struct mr_command command_show = {
    .name = "show",
    .arguments = "BRIDGE [LETTER]...",
    .arguments_min = 1,
    .arguments_max = UINT32_MAX,
    .summary = "show dead letters: reason, where they came from, payload",
    .help = "Columns: lane and number of the letter, time, client, topic, QoS, payload, and\n"
            "then lane:seq of the event, bridge and reason.\n",
    .options = show_options,
    .run = show_run,
};

static const struct mr_command command_retry = {
    .name = "retry",
    .arguments = "BRIDGE [LETTER]...",
    .arguments_min = 1,
    .arguments_max = UINT32_MAX,
    .summary = "offer dead letters to their bridge once more",
    .help = "They are appended to the journal again, addressed to that bridge alone, and taken\n"
            "out of the dead letters when that is durable. What fails again becomes a new dead\n"
            "letter. Needs the running gateway.\n",
    .options = handle_options,
    .run = retry_run,
};

static const struct mr_command command_drop = {
    .name = "drop",
    .arguments = "BRIDGE [LETTER]...",
    .arguments_min = 1,
    .arguments_max = UINT32_MAX,
    .summary = "take dead letters out for good",
    .help = "Needs the running gateway. Letters of a bridge that is gone: stop the gateway and\n"
            "remove their folder below dead-letters.\n",
    .options = handle_options,
    .run = drop_run,
};

static const struct mr_command *const dlq_commands[] = {&command_ls, &command_show, &command_retry,
                                                        &command_drop, NULL};

const struct mr_command mr_command_dlq = {
    .name = "dlq",
    .group = "Look",
    .summary = "dead letters: what could not be delivered, and why",
    .subcommands = dlq_commands,
};
