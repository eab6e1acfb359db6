/* test_session_move.c
 * links: broker net store journal codec config os base
 *
 * Goal:   another number of shards: sessions, subscriptions, deliveries with their ordinals, ids
 *         awaiting PUBREL, wills and retained messages are the same before and after, whatever
 *         was done, from any count to any other, and through a crash at each step of the move; also
 *         if the stores are away then, or an older copy, and the journal has all of it.
 * Method: clients do random things to a real broker (session_walk.h); at random moments the disk
 *         is copied, put into the state of one step of a move to another count, and started with
 *         that, the old or a third count; what comes of it is compared line by line.
 *
 * The seed is printed; MR_SEED repeats a run.
 */
#include "session_walk.h"

/* Where the move was interrupted. */
enum step {
    STEP_NOTHING,     /* the machine stopped before: the journal knows nothing of the new count */
    STEP_EPOCH,       /* the journal's new epoch has begun, and no more */
    STEP_WRITING,     /* some of the new stores are there, one is not complete */
    STEP_WRITTEN,     /* all are, and do not count yet */
    STEP_DECIDED,     /* they count */
    STEP_OLD_REMOVED, /* those beyond the new count are gone, and the first one */
    STEP_HALF,        /* the first of the new ones has its name */
    STEP_NAMED,       /* all have */
    STEPS
};

static uint32_t shards_random(void)
{
    static const uint32_t counts[] = {1, 2, 3, 5};

    return counts[mr_rng_below(&rng, MR_COUNT_OF(counts))];
}

struct path {
    char text[1024];
};

static struct path path_of(const char *folder, const char *name)
{
    struct path path;
    struct mr_text text = mr_text_over(path.text, sizeof(path.text));

    mr_text_fmt(&text, "%s/%s", folder, name);
    return path;
}

static struct path lane_of(const char *folder, uint32_t lane)
{
    struct path path;
    struct mr_text text = mr_text_over(path.text, sizeof(path.text));

    mr_text_fmt(&text, "%s/lane-%02u", folder, lane);
    return path;
}

static void remove_if_there(const char *path)
{
    if (mr_path_exists(path)) {
        folder_remove_all(path);
    }
}

/* The new epoch begins, as a start with `lanes` does it first. */
static void journal_begin(const char *folder, uint32_t lanes)
{
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};
    struct mr_journal_options options = {
        .path = folder, .lane_count = lanes, .manual = true, .record_bytes_max = 256 << 10};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "journal: %s\n", why.text);
        abort();
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* The stores that a whole move of `folder` to `lanes` makes, into `out`. */
static void stores_of_a_move(const char *folder, uint32_t lanes, const char *out)
{
    struct kit moved = {.options = kit.options};

    kit_folder(&moved);
    folder_copy(folder, moved.folder);
    moved.options.lanes = lanes;
    kit_ready(&moved);
    kit_end(&moved, 0);
    folder_copy(path_of(moved.folder, "sessions").text, out);
    folder_remove_all(moved.folder);
}

/* One of the new stores is missing, one is not complete. */
static void stores_tear(const char *next, uint32_t lanes)
{
    struct path data = path_of(lane_of(next, 0).text, "data.mdb");

    folder_remove_all(lane_of(next, lanes - 1).text);
    if (mr_path_exists(data.text)) {
        mr_assert(truncate(data.text, 5000) == 0);
    }
}

/* `sessions` as it is when a move to `lanes`, whose stores are in `made`, ends at `step`. */
static void sessions_break(const char *sessions, const char *made, uint32_t lanes, enum step step)
{
    struct path next = path_of(sessions, step >= STEP_DECIDED ? "moved" : "moving");

    mr_assert(mr_dir_create(next.text, NULL) == MR_OK);
    folder_copy(made, next.text);
    if (step == STEP_WRITING) {
        stores_tear(next.text, lanes);
    }
    for (uint32_t lane = 0; step >= STEP_OLD_REMOVED && lane < 8; lane++) {
        struct path old = lane_of(sessions, lane);
        bool is_first = lane == 0 || step == STEP_NAMED;

        if (lane >= lanes || is_first) {
            remove_if_there(old.text);
        }
        if (lane < lanes && is_first && step >= STEP_HALF) {
            mr_assert(mr_path_rename(lane_of(next.text, lane).text, old.text) == MR_OK);
        }
    }
}

/* ---- stores that are not those that were there ---- */

static char older[] = "/tmp/mr-older-XXXXXX";
static bool older_there;
static uint64_t exchanged[2];

static void older_make(void)
{
    mr_assert(mr_dir_create(older, NULL) == MR_OK);
    older_there = false;
}

/* The stores are away, or as they were at some crash before; or are kept for that. */
static void sessions_exchange(const char *sessions)
{
    if (chance(25)) {
        folder_remove_all(sessions);
        exchanged[0] += 1;
    } else if (older_there && chance(40)) {
        folder_remove_all(sessions);
        mr_assert(mr_dir_create(sessions, NULL) == MR_OK);
        folder_copy(older, sessions);
        exchanged[1] += 1;
    } else if (chance(60)) {
        folder_remove_all(older);
        older_make();
        folder_copy(sessions, older);
        older_there = true;
    }
}

static bool epoch_has_records(void)
{
    uint32_t before = mr_journal_epoch(kit.journal) - 1;
    bool any = false;

    for (uint32_t lane = 0; lane < mr_journal_lane_count(kit.journal); lane++) {
        any |= mr_lane_next_seq(mr_journal_lane(kit.journal, lane)) - 1 >
               mr_journal_epoch_end(kit.journal, before, lane);
    }
    return any;
}

static uint64_t moves[STEPS];

static void move_and_compare(void)
{
    enum step step = (enum step)mr_rng_below(&rng, STEPS);
    uint32_t before_count = kit.options.lanes;
    uint32_t lanes = shards_random();
    struct lines *before = crash();
    struct path sessions = path_of(kit.folder, "sessions");

    if (step >= STEP_EPOCH && lanes != before_count) {
        if (step >= STEP_WRITING) {
            char made[] = "/tmp/mr-made-XXXXXX";
            mr_assert(mkdtemp(made) != NULL);
            stores_of_a_move(kit.folder, lanes, made);
            sessions_break(sessions.text, made, lanes, step);
            folder_remove_all(made);
        }
        journal_begin(kit.folder, lanes);
    }
    switch (mr_rng_below(&rng, 3)) {
    case 0:
        break; /* back to the old count */
    case 1:
        kit.options.lanes = lanes;
        break;
    default:
        kit.options.lanes = shards_random();
        break;
    }
    moves[step] += 1;
    begin_and_compare(before);
}

/* Each epoch has records: without any nobody can know later whether it was moved to. */
static void exchange_and_compare(void)
{
    while (!epoch_has_records()) {
        size_t index = mr_rng_below(&rng, CLIENTS);
        actor_act(&actors[index], index);
    }
    mr_journal_step_keeper(kit.journal); /* the disk has the cursors */
    struct lines *before = crash();
    sessions_exchange(path_of(kit.folder, "sessions").text);
    kit.options.lanes = shards_random();
    begin_and_compare(before);
}

int main(void)
{
    uint64_t seed = walk_seed();

    mr_assert(mkdtemp(older) != NULL);
    for (uint64_t i = 0; i < 3; i++) {
        static const uint32_t checkpoint_ms[] = {3, 40, 100000};
        struct kit_options options = {.manual = true,
                                      .lanes = (uint32_t)i + 1,
                                      .segment_bytes = 1 << 20,
                                      .checkpoint_ms = checkpoint_ms[i]};
        walk(seed + i, &options, 450, move_and_compare);
        walk(seed + i, &options, 250, exchange_and_compare);
        folder_remove_all(older);
        older_make();
    }
    folder_remove_all(older);
    printf("%llu lines of state were the same\n", (unsigned long long)compared);
    for (int step = 0; step < STEPS; step++) {
        printf("interrupted at step %d: %llu\n", step, (unsigned long long)moves[step]);
    }
    printf("stores away: %llu, older: %llu\n", (unsigned long long)exchanged[0],
           (unsigned long long)exchanged[1]);
    mr_assert(aliases_met != 0 && compared > 100);
    return 0;
}
