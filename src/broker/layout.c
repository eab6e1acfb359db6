/* layout.c - the folders of the session stores, and the change from one set to another.
 *
 *     sessions/lane-NN         the store of shard NN
 *     sessions/moving/lane-NN  being written for another number of shards: worth nothing yet
 *     sessions/moved/lane-NN   the same, complete: from now on it is the state
 *
 * The rename from `moving` to `moved` decides.  What follows (the old stores go, the new ones
 * take their names) can be interrupted anywhere and is finished at the next start: as long as
 * there is a `moved/lane-NN`, `lane-NN` is an old one.  The new ones are renamed in ascending
 * order, so the highest that is left in `moved` says how many there are; those beyond it go first.
 */
#include "broker/layout_internal.h"

#include "os/file.h"

static const char moving[] = "moving";
static const char moved[] = "moved";

void layout_path(char out[SESSIONS_PATH_BYTES], const char *sessions, bool next, uint32_t lane)
{
    struct mr_text text = mr_text_over(out, SESSIONS_PATH_BYTES);

    mr_text_fmt(&text, "%s/%s%slane-%02u", sessions, next ? moving : "", next ? "/" : "", lane);
}

static void folder_path(char out[SESSIONS_PATH_BYTES], const char *sessions, const char *name)
{
    struct mr_text text = mr_text_over(out, SESSIONS_PATH_BYTES);

    mr_text_fmt(&text, "%s/%s", sessions, name);
}

static enum mr_err disk_error(const char *path, struct mr_error *why)
{
    return mr_error_set(why, MR_ERR_IO,
                        "%s: the session stores cannot be moved: %s; check the "
                        "disk",
                        path, mr_file_last_cause());
}

/* ---- folders that go ---- */

struct removing {
    const char *path;
    bool failed;
};

static void remove_name(void *arg, const char *name)
{
    struct removing *removing = arg;
    char path[SESSIONS_PATH_BYTES];

    folder_path(path, removing->path, name);
    removing->failed |= mr_path_remove(path) != MR_OK;
}

/* A store's folder, or one in which there is nothing but files. */
static bool folder_remove(const char *path)
{
    struct removing removing = {.path = path};

    return !mr_path_exists(path) || (mr_dir_list(path, remove_name, &removing) == MR_OK &&
                                     !removing.failed && mr_path_remove(path) == MR_OK);
}

static bool stores_remove(const char *folder, uint32_t from)
{
    char path[SESSIONS_PATH_BYTES];
    bool done = true;

    for (uint32_t lane = from; lane < SHARDS_MAX && done; lane++) {
        layout_path(path, folder, false, lane);
        done = folder_remove(path);
    }
    return done;
}

enum mr_err layout_trim(const char *sessions, uint32_t lanes, struct mr_error *why)
{
    return stores_remove(sessions, lanes) ? MR_OK : disk_error(sessions, why);
}

/* ---- the change ---- */

/* One more than the highest lane of which there is a store in `folder`; 0: none. */
static uint32_t stores_count(const char *folder)
{
    char path[SESSIONS_PATH_BYTES];
    uint32_t count = 0;

    for (uint32_t lane = 0; lane < SHARDS_MAX; lane++) {
        layout_path(path, folder, false, lane);
        if (mr_path_exists(path)) {
            count = lane + 1;
        }
    }
    return count;
}

static bool stores_take(const char *sessions, const char *from)
{
    uint32_t count = stores_count(from);
    bool done = count == 0 || stores_remove(sessions, count);

    for (uint32_t lane = 0; lane < count && done; lane++) {
        char path[SESSIONS_PATH_BYTES];
        char to[SESSIONS_PATH_BYTES];

        layout_path(path, from, false, lane);
        layout_path(to, sessions, false, lane);
        if (mr_path_exists(path)) {
            done = folder_remove(to) && mr_path_rename(path, to) == MR_OK;
        }
    }
    return done && mr_path_remove(from) == MR_OK && mr_dir_sync(sessions) == MR_OK;
}

enum mr_err layout_settle(const char *sessions, struct mr_error *why)
{
    char path[SESSIONS_PATH_BYTES];

    folder_path(path, sessions, moved);
    if (mr_path_exists(path) && !stores_take(sessions, path)) {
        return disk_error(path, why);
    }
    folder_path(path, sessions, moving);
    if (mr_path_exists(path) && !(stores_remove(path, 0) && mr_path_remove(path) == MR_OK)) {
        return disk_error(path, why);
    }
    return MR_OK;
}

enum mr_err layout_decide(const char *sessions, struct mr_error *why)
{
    char from[SESSIONS_PATH_BYTES];
    char to[SESSIONS_PATH_BYTES];

    folder_path(from, sessions, moving);
    folder_path(to, sessions, moved);
    if (mr_dir_sync(from) != MR_OK || mr_path_rename(from, to) != MR_OK ||
        mr_dir_sync(sessions) != MR_OK) {
        return disk_error(from, why);
    }
    return MR_OK;
}

/* ---- which one there is ---- */

struct looking {
    const struct mr_journal_id *journal;
    struct vector *found;
};

/* False: a row that is none; what it said must not be taken for nothing. */
static bool look(void *arg, struct mr_span key, struct mr_span value)
{
    struct looking *looking = arg;
    struct vector vector;
    struct mr_span lanes;

    if (row_is_steps(key)) {
        return true;
    }
    if (!row_vector_get(key, value, &vector, &lanes)) {
        return false;
    }
    if (memcmp(&vector.journal, looking->journal, sizeof(vector.journal)) == 0) {
        *looking->found = vector;
    }
    return true;
}

enum mr_err layout_find(const char *sessions, const struct mr_journal_id *journal,
                        struct vector *out, struct mr_error *why)
{
    struct looking looking = {.journal = journal, .found = out};

    *out = (struct vector){.lanes = 0};
    for (uint32_t lane = 0; lane < SHARDS_MAX && out->lanes == 0; lane++) {
        struct mr_store *store = NULL;
        char path[SESSIONS_PATH_BYTES];

        layout_path(path, sessions, false, lane);
        if (!mr_path_exists(path)) {
            continue;
        }
        enum mr_err err =
            mr_store_open(&store, &(struct mr_store_options){.path = path, .manual = true}, why);
        if (err != MR_OK) {
            return err;
        }
        bool read = mr_store_each(store, MR_STORE_VECTOR, look, &looking);
        mr_store_close(store);
        if (!read) { /* else it would be taken for one that is not there, and replaced */
            return mr_error_set(why, MR_ERR_IO,
                                "%s: the session store cannot be read; check the disk and start "
                                "again; if it stays so, move the folder away to start without it",
                                path);
        }
    }
    return MR_OK;
}
