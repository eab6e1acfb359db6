/* letters_resume.c - a retry of dead letters that the last run did not finish.
 *
 *     intent (letters, lane, seq) ─▶ copies in the lane behind seq ─▶ the letters are taken out
 *            durable before                durable before
 *
 * A crash between the second and the third leaves letters whose copies are in the lane already: to
 * retry them once more would double them.  So at a start the newest intent in the dead letters is
 * looked at: a letter of it whose copy stands in the lane behind the place that the intent names
 * is taken out now; one without was not appended, and stays.  A copy is told by the place that the
 * event came from, which no two letters of a bridge have in common.
 *
 * Thread: whoever starts the gateway, or handles letters.
 * Memory: 24 bytes a letter of the last batch.   Time: the lane is read from the intent on.
 */
#include "app/gateway_internal.h"

#include "app/cli/walk.h"
#include "base/log.h"
#include "os/file.h"

#include <inttypes.h>

struct letter {
    uint64_t seq;
    uint64_t from_seq;
    uint32_t from_lane;
    bool copied;
};

struct resuming {
    struct gateway *gateway;
    const char *name; /* of the bridge */
    struct mr_seq_range *gone;
    size_t gone_count;
    struct mr_seq_range *meant; /* of the newest intent */
    size_t meant_count;
    uint64_t meant_seq; /* ... and where it begins in the lane */
    uint32_t meant_lane;
    struct letter *letters; /* meant, and still there */
    size_t letter_count;
};

static void ranges_add(struct mr_seq_range **ranges, size_t *count, struct mr_seq_range range)
{
    *ranges = mr_realloc(*ranges, (*count + 1) * sizeof(**ranges));
    (*ranges)[(*count)++] = range;
}

static void find_intents(struct resuming *r, const struct mr_walk_event *record)
{
    struct mr_take take = mr_take_from(record->raw.body);
    struct mr_seq_range range;

    if (record->raw.type == MR_RECORD_LETTERS_RETRY) {
        r->meant_count = 0;
        r->meant_lane = (uint32_t)mr_take_varint(&take);
        r->meant_seq = mr_take_varint(&take);
        while (mr_letters_done_get(&take, &range)) {
            ranges_add(&r->meant, &r->meant_count, range);
        }
    }
}

static void find_letters(struct resuming *r, const struct mr_walk_event *record)
{
    if (record->raw.type == MR_RECORD_DEAD_LETTER &&
        mr_letters_among(r->meant, r->meant_count, record->seq) &&
        !mr_letters_among(r->gone, r->gone_count, record->seq)) {
        r->letters = mr_realloc(r->letters, (r->letter_count + 1) * sizeof(*r->letters));
        r->letters[r->letter_count++] = (struct letter){.seq = record->seq,
                                                        .from_seq = record->raw.dead_seq,
                                                        .from_lane = record->raw.dead_lane};
    }
}

static void find_copies(struct resuming *r, const struct mr_walk_event *record)
{
    if (record->raw.type != MR_RECORD_DEAD_LETTER ||
        !mr_span_is(record->raw.dead_bridge, r->name)) {
        return;
    }
    for (size_t i = 0; i < r->letter_count; i++) {
        struct letter *letter = &r->letters[i];
        letter->copied = letter->copied || (letter->from_seq == record->raw.dead_seq &&
                                            letter->from_lane == record->raw.dead_lane);
    }
}

/* Every record from `first` on, up to `last`.  AGAIN: the gateway ends, and not all were seen. */
static enum mr_err walk_all(const char *path, uint64_t first, uint64_t last, struct resuming *r,
                            void (*each)(struct resuming *r, const struct mr_walk_event *record),
                            struct mr_error *why)
{
    struct mr_walk *walk = NULL;
    struct mr_walk_damage damage;
    struct mr_walk_event record;
    bool torn = false;
    enum mr_err err = mr_walk_open(&walk, path, first, why);

    while (err == MR_OK) {
        if (atomic_load(&r->gateway->stopping)) {
            mr_walk_close(walk);
            return mr_error_set(why, MR_ERR_AGAIN, "the gateway is ending");
        }
        err = mr_walk_next(walk, &record, &damage, why);
        if (err == MR_ERR_AGAIN) { /* they may stand behind damage in the newest segment too */
            err = mr_walk_tail(walk, &damage, &torn, why);
        }
        if (err == MR_OK && record.seq > last) {
            err = MR_ERR_AGAIN;
        } else if (err == MR_OK) {
            each(r, &record);
        } else if (err == MR_ERR_CORRUPT) {
            err = MR_OK; /* the journal tells of it */
        }
    }
    mr_walk_close(walk);
    return err == MR_ERR_AGAIN ? MR_OK : err;
}

static enum mr_err look(struct gateway *gateway, struct mr_bridge *bridge, struct resuming *r,
                        const char *box, struct mr_error *why)
{
    char name[64];
    char path[GATEWAY_PATH_BYTES];
    struct mr_text text = mr_text_over(name, sizeof(name));
    enum mr_err err = walk_all(box, 1, UINT64_MAX, r, find_intents, why);

    if (err == MR_OK && r->meant_count != 0) {
        err = mr_bridge_letters_gone(bridge, &r->gone, &r->gone_count, why);
    }
    if (err == MR_OK && r->meant_count != 0) {
        err = walk_all(box, 1, UINT64_MAX, r, find_letters, why);
    }
    if (err != MR_OK || r->letter_count == 0 ||
        r->meant_lane >= mr_journal_lane_total(gateway->journal)) {
        return err;
    }
    mr_text_fmt(&text, "journal/lane-%02" PRIu32, r->meant_lane);
    mr_gateway_path(gateway, name, path);
    return walk_all(path, r->meant_seq + 1,
                    mr_lane_durable(mr_journal_lane(gateway->journal, r->meant_lane)), r,
                    find_copies, why);
}

/* Those that were copied go; then nothing is meant any more. */
static enum mr_err settle(struct mr_bridge *bridge, const struct resuming *r, struct mr_error *why)
{
    struct mr_seq_range *copied = NULL;
    size_t count = 0;
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < r->letter_count; i++) {
        const struct letter *letter = &r->letters[i];
        if (letter->copied) {
            ranges_add(&copied, &count,
                       (struct mr_seq_range){.first = letter->seq, .last = letter->seq});
        }
    }
    if (count != 0) {
        err = mr_bridge_letters_done(bridge, copied, count, why);
        mr_log(err == MR_OK ? MR_LOG_INFO : MR_LOG_ERROR, "bridge",
               "%s: %zu dead letters had been retried when the last run ended; %s", r->name, count,
               err == MR_OK ? "they are taken out now" : why->text);
    }
    mr_free(copied);
    return err == MR_OK ? mr_bridge_letters_retry(bridge, NULL, 0, r->meant_lane, r->meant_seq, why)
                        : err;
}

enum mr_err mr_letters_resume(struct gateway *gateway, struct mr_bridge *bridge,
                              struct mr_error *why)
{
    struct mr_bridge_stats stats;
    struct resuming resuming = {.gateway = gateway};
    char name[MR_CURSOR_NAME_MAX + 32];
    char path[GATEWAY_PATH_BYTES];
    struct mr_text text = mr_text_over(name, sizeof(name));

    mr_bridge_stats(bridge, &stats);
    mr_text_fmt(&text, "dead-letters/%s/lane-00", stats.name);
    mr_gateway_path(gateway, name, path);
    if (!mr_path_exists(path)) {
        return MR_OK;
    }
    resuming.name = stats.name;
    enum mr_err err = look(gateway, bridge, &resuming, path, why);
    if (err == MR_OK && resuming.meant_count != 0) {
        err = settle(bridge, &resuming, why);
    }
    mr_free(resuming.gone);
    mr_free(resuming.meant);
    mr_free(resuming.letters);
    return err;
}
