/* bridge_seek.c - `millrace bridge seek NAME --to PLACE`: go on elsewhere.
 *
 *     where are its cursors, what do its lanes hold?   (the gateway, or the files)
 *     ─▶ a plan per lane, shown ─▶ --yes: by the gateway's worker, or in the table
 *
 * PLACE names the record to go on with; the cursor stands in front of it.
 */
#include <inttypes.h>

#include "app/cli/ask.h"
#include "app/cli/bridge_internal.h"
#include "app/cli/ends.h"
#include "app/cli/walk.h"
#include "codec/timestamp.h"
#include "journal/cursor.h"
#include "os/clock.h"

enum { PATH_BYTES = 4096 };

struct place {
    uint32_t lane;
    uint64_t cursor;
    uint64_t oldest; /* first record there is */
    uint64_t newest; /* last one; MR_SEQ_UNKNOWN: it cannot be told */
    uint64_t target; /* of the cursor */
};

struct plan {
    struct mr_cli *cli;
    const char *name;
    bool running;
    char journal_path[PATH_BYTES];
    struct place *places;
    size_t count;
};

/* ---- where it is ---- */

static struct place *place_add(struct plan *plan, uint32_t lane, uint64_t cursor)
{
    plan->places = mr_realloc(plan->places, (plan->count + 1) * sizeof(*plan->places));
    struct place *place = &plan->places[plan->count];
    *place = (struct place){.lane = lane, .cursor = cursor};
    plan->count += 1;
    return place;
}

static bool lane_is_wanted(struct mr_cli *cli, uint64_t lane)
{
    return !mr_cli_given(cli, "lane") || mr_cli_number(cli, "lane") == lane;
}

static void place_of_status(struct plan *plan, struct mr_span status, struct mr_span bridge)
{
    uint64_t lane_index = mr_answer_u64(bridge, "lane");
    struct place *place = place_add(plan, (uint32_t)lane_index, mr_answer_u64(bridge, "cursor"));
    struct mr_span at = mr_json_member(status, "lanes");
    struct mr_span lane;

    while (mr_json_next(&at, &lane)) {
        if (mr_answer_u64(lane, "lane") == lane_index) {
            place->oldest = mr_answer_u64(lane, "oldest");
            place->newest = mr_answer_u64(lane, "durable");
        }
    }
}

static void plan_from_status(struct plan *plan, struct mr_span status)
{
    struct mr_span at = mr_json_member(status, "bridges");
    struct mr_span bridge;
    char name[MR_CURSOR_NAME_MAX * 2];

    while (mr_json_next(&at, &bridge)) {
        if (strcmp(mr_answer_text(bridge, "name", name, sizeof(name)), plan->name) == 0 &&
            lane_is_wanted(plan->cli, mr_answer_u64(bridge, "lane"))) {
            place_of_status(plan, status, bridge);
        }
    }
}

static void plan_from_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    struct plan *plan = arg;

    if (strcmp(name, plan->name) == 0 && lane_is_wanted(plan->cli, lane)) {
        struct place *place = place_add(plan, lane, seq);
        place->oldest = mr_lane_oldest(plan->journal_path, lane);
        place->newest = mr_lane_newest(plan->journal_path, lane);
    }
}

/* ---- where it shall go ---- */

/* A time, or how long ago: "2h". */
static bool time_parse(const char *text, int64_t *out_us)
{
    uint64_t ago_us = 0;

    if (mr_parse_duration(mr_span_of(text), &ago_us) == MR_OK) {
        *out_us = mr_clock_wall_us() - (int64_t)ago_us;
        return true;
    }
    return mr_timestamp_read(mr_span_of(text), MR_TIME_RFC3339, out_us) == NULL;
}

/* Where a lane ends is what every place but `oldest` is measured against. */
static int check_ends(const struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->places[i].newest == MR_SEQ_UNKNOWN) {
            return mr_cli_fail(plan->cli, MR_EXIT_DATA,
                               "the newest segment of lane %" PRIu32
                               " does not read (its header is damaged, or the disk refuses), so "
                               "where the lane ends cannot be told; `millrace journal verify` says "
                               "which; mend it with `millrace journal repair`, or start the "
                               "gateway, and try again",
                               plan->places[i].lane);
        }
    }
    return MR_EXIT_OK;
}

static int resolve_seq(struct plan *plan, uint64_t seq)
{
    struct place *place = &plan->places[0];

    if (plan->count > 1) {
        return mr_cli_fail(plan->cli, MR_EXIT_USAGE,
                           "record %" PRIu64 " of which lane? '%s' reads %zu; add --lane", seq,
                           plan->name, plan->count);
    }
    if (seq < place->oldest || seq > place->newest + 1) {
        return mr_cli_fail(plan->cli, MR_EXIT_DATA,
                           "lane %" PRIu32 " holds records %" PRIu64 " to %" PRIu64
                           "; record %" PRIu64 " is not among them",
                           place->lane, place->oldest, place->newest, seq);
    }
    place->target = seq - 1;
    return MR_EXIT_OK;
}

/* An earlier place would be safe, but what is told twice without a word is a lie. */
static int place_at(struct plan *plan, const struct place *place, int64_t time_us, uint64_t *out)
{
    struct mr_error why = {.text = ""};
    enum mr_err err = mr_lane_at(plan->journal_path, place->lane, time_us, out, &why);

    if (err != MR_OK) {
        return mr_cli_fail(plan->cli, err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO,
                           "lane %" PRIu32 ": where that time is cannot be told: %s; check the "
                           "disk, or give a record's seq",
                           place->lane, why.text);
    }
    *out = *out < place->oldest ? place->oldest : *out;
    *out = *out > place->newest + 1 ? place->newest + 1 : *out;
    return MR_EXIT_OK;
}

static int resolve(struct plan *plan)
{
    const char *to = mr_cli_text(plan->cli, "to");
    uint64_t seq = 0;
    int64_t time_us = 0;
    bool is_time = false;

    if (to == NULL) {
        return mr_cli_fail(plan->cli, MR_EXIT_USAGE,
                           "where to? --to oldest, now, a record's seq, or a time");
    }
    bool oldest = strcmp(to, "oldest") == 0;
    int code = oldest ? MR_EXIT_OK : check_ends(plan);
    if (code != MR_EXIT_OK) {
        return code;
    }
    if (mr_parse_u64(mr_span_of(to), UINT64_MAX - 1, &seq) == MR_OK && seq > 0) {
        return resolve_seq(plan, seq);
    }
    if (!oldest && strcmp(to, "now") != 0) {
        is_time = time_parse(to, &time_us);
        if (!is_time) {
            return mr_cli_fail(plan->cli, MR_EXIT_USAGE,
                               "--to '%s' is no place; write oldest, now, a record's seq, a time "
                               "as 2026-11-25T06:00:00Z, or how long ago as 2h",
                               to);
        }
    }
    for (size_t i = 0; i < plan->count && code == MR_EXIT_OK; i++) {
        struct place *place = &plan->places[i];
        uint64_t first = oldest ? place->oldest : place->newest + 1;
        if (is_time) {
            code = place_at(plan, place, time_us, &first);
        }
        place->target = first - 1;
    }
    return code;
}

/* ---- saying and doing ---- */

static void place_show(struct mr_cli *cli, const struct place *place)
{
    (void)mr_cli_out(cli, "lane %" PRIu32 ": from record %" PRIu64 " to record %" PRIu64 ": ",
                     place->lane, place->cursor + 1, place->target + 1);
    if (place->target < place->cursor) {
        (void)mr_cli_out(cli, "%" PRIu64 " records come again\n", place->cursor - place->target);
    } else if (place->target > place->cursor) {
        (void)mr_cli_out(cli, "%" PRIu64 " records are passed over and never delivered by it\n",
                         place->target - place->cursor);
    } else {
        (void)mr_cli_out(cli, "it is there already\n");
    }
}

static int move_running(struct plan *plan, const struct place *place)
{
    char target[1024];
    struct mr_text text = mr_text_over(target, sizeof(target));
    struct mr_answer answer;

    mr_text_add(&text, "bridges/seek?name=");
    mr_ask_escape(&text, mr_span_of(plan->name));
    mr_text_fmt(&text, "&lane=%" PRIu32 "&seq=%" PRIu64, place->lane, place->target);
    int code = mr_ask(plan->cli, "POST", target, &answer);
    if (code != MR_EXIT_OK) {
        return code;
    }
    uint64_t seq = mr_answer_u64(answer.json, "seq");
    if (seq != place->target) {
        mr_cli_note(plan->cli,
                    "lane %" PRIu32 ": begins with record %" PRIu64 ", the oldest there is now",
                    place->lane, seq + 1);
    }
    mr_answer_free(&answer);
    return MR_EXIT_OK;
}

static int move_stopped(struct plan *plan, struct mr_journal *journal, const struct place *place)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why = {.text = ""};
    bool is_new = false;
    enum mr_err err =
        mr_cursor_open(journal, plan->name, place->lane, MR_START_OLDEST, &cursor, &is_new, &why);

    mr_assert(err != MR_OK || !is_new); /* the plan was made from it, under the lock */
    if (err == MR_OK) {
        err = mr_cursor_seek(cursor, place->target);
    }
    return err == MR_OK
               ? MR_EXIT_OK
               : mr_cli_fail(plan->cli, MR_EXIT_IO,
                             err == MR_ERR_FULL
                                 ? "the disk has no room to write the cursors; make room on it and "
                                   "try again, what is done already stays"
                                 : "the cursors cannot be written; check the disk");
}

static int plan_carry_out(struct plan *plan, struct mr_journal *journal)
{
    int code = MR_EXIT_OK;
    bool yes = mr_cli_flag(plan->cli, "yes");

    if (plan->count == 0) {
        return mr_cli_fail(plan->cli, MR_EXIT_NO_INPUT,
                           "there is no bridge '%s'%s; `millrace bridge ls` and `millrace journal "
                           "cursors` list them",
                           plan->name, mr_cli_given(plan->cli, "lane") ? " in that lane" : "");
    }
    code = resolve(plan);
    for (size_t i = 0; i < plan->count && code == MR_EXIT_OK; i++) {
        const struct place *place = &plan->places[i];
        place_show(plan->cli, place);
        if (yes && !plan->running) {
            /* Where the cursor is already, it says so once more: the operator's word counts,
             * whatever the target's position is. */
            code = move_stopped(plan, journal, place);
        } else if (yes && place->target != place->cursor) {
            code = move_running(plan, place);
        }
    }
    if (code == MR_EXIT_OK && !yes) {
        mr_cli_note(plan->cli, "nothing was changed; add --yes to do it");
    }
    return code;
}

static int seek_run(struct mr_cli *cli)
{
    struct plan plan = {.cli = cli, .name = mr_cli_argument(cli, 0)};
    struct mr_journal *journal = NULL;
    struct mr_answer answer;
    int code = mr_ask_if_running(cli, "GET", "status", &answer, &plan.running);

    if (code == MR_EXIT_OK) {
        code = mr_walk_journal_path(cli, plan.journal_path, sizeof(plan.journal_path));
    }
    if (code == MR_EXIT_OK && plan.running) {
        plan_from_status(&plan, answer.json);
    } else if (code == MR_EXIT_OK) {
        code = mr_bridge_cursors_open(cli, &journal);
        if (code == MR_EXIT_OK) {
            mr_cursor_list(journal, plan_from_cursor, &plan);
        }
    }
    if (code == MR_EXIT_OK) {
        code = plan_carry_out(&plan, journal);
    }
    mr_answer_free(&answer);
    if (journal != NULL) {
        (void)mr_journal_close(journal); /* what was changed is synced */
    }
    mr_free(plan.places);
    return code;
}

static const struct mr_cli_option seek_options[] = {
    {.name = "to",
     .type = MR_OPT_STR,
     .value = "PLACE",
     .help = "oldest, now, a record's seq, a time (2026-11-25T06:00:00Z) or how long ago (2h)."},
    {.name = "lane",
     .type = MR_OPT_U64,
     .value = "N",
     .max = UINT16_MAX,
     .help = "Only in this lane; otherwise in all."},
    {.name = "yes", .type = MR_OPT_BOOL, .help = "Do it; without this it only says what it would."},
    {.name = NULL},
};

const struct mr_command mr_command_bridge_seek = {
    .name = "seek",
    .arguments = "NAME",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "let a bridge go on elsewhere in the journal",
    .help = "Back: everything from there on is delivered once more, as far as the journal has\n"
            "kept it (journal.keep). Forward: what is passed over is never delivered by this\n"
            "bridge. Works beside a running gateway and without one.\n",
    .options = seek_options,
    .run = seek_run,
};
