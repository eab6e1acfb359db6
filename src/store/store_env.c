/* store_env.c - LMDB's environment: opened, and opened again; see store_internal.h.
 *
 * DESIGN
 *
 * What the rows look like has a version, in a table of its own.  A store without one is of
 * version 1.  Rows of older versions are read as they are; whoever opens a store writes his
 * own version first, so that an older program refuses what it could not read.
 *
 * When the last write of a transaction fails, LMDB gives up its environment: it neither
 * reads nor writes any more (MDB_PANIC), although what it had is whole.  Then the writer keeps
 * off, and the owner opens it again, at a moment when he reads nothing, twice a second at most.
 *
 * The file cannot outgrow the map that was reserved for it, of which LMDB wants to hear while
 * nobody reads or writes.  So a store whose map is full goes the same way, and gets twice as much;
 * what bounds it is the disk.
 *
 * LMDB also maps the file of its locks, as large as it is, and writes into it.  Without a place on
 * the disk behind it that would end the process, so it gets its place before.
 */
#include "store/store_internal.h"

#include "base/bytes.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"

#include <errno.h>
#include <stdio.h>

enum {
    STORE_VERSION = 2, /* 1: without a version, and no names in messages */
    LOCKS_BYTES = 8192 /* as LMDB makes it; a larger one it takes as it is */
};

static const char *const table_names[MR_STORE_TABLES] = {
    [MR_STORE_VECTOR] = "vector",
    [MR_STORE_SESSIONS] = "sessions",
    [MR_STORE_SUBSCRIPTIONS] = "subscriptions",
    [MR_STORE_DELIVERIES] = "deliveries",
    [MR_STORE_MESSAGES] = "messages",
    [MR_STORE_RETAINED] = "retained",
};

/* The version of the rows; 1: none is told.  A negative number: LMDB's error. */
static int version_read(MDB_txn *txn, MDB_dbi format, uint32_t *out)
{
    static char name[] = "version";
    MDB_val key = {.mv_size = sizeof(name) - 1, .mv_data = name};
    MDB_val value;
    int rc = mdb_get(txn, format, &key, &value);

    *out = rc == 0 && value.mv_size == 4 ? mr_get_u32(value.mv_data) : 1;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int version_write(MDB_txn *txn, MDB_dbi format)
{
    static char name[] = "version";
    uint8_t bytes[4];
    MDB_val key = {.mv_size = sizeof(name) - 1, .mv_data = name};
    MDB_val value = {.mv_size = sizeof(bytes), .mv_data = bytes};

    mr_put_u32(bytes, STORE_VERSION);
    return mdb_put(txn, format, &key, &value, 0);
}

/* Open the tables, made if they are not there, and make the store one of our version; *version is
 * what it was.  Of a newer one nothing is touched.
 */
static int tables_open(struct mr_store *store, MDB_txn *txn, uint32_t *version)
{
    MDB_dbi format;
    int rc = mdb_dbi_open(txn, "format", MDB_CREATE, &format);

    if (rc == 0) {
        rc = version_read(txn, format, version);
    }
    if (rc != 0 || *version > STORE_VERSION) {
        return rc;
    }
    for (int i = 0; i < MR_STORE_TABLES && rc == 0; i++) {
        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &store->tables[i]);
    }
    return rc == 0 && *version < STORE_VERSION ? version_write(txn, format) : rc;
}

/* Not the configuration is at fault when the disk has no room, or fails. */
static enum mr_err open_failed(const struct mr_store *store, int rc, struct mr_error *why)
{
    bool damaged = rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID;
    enum mr_err err = damaged                        ? MR_ERR_CORRUPT
                      : rc == ENOSPC || rc == EDQUOT ? MR_ERR_FULL
                      : rc == EIO                    ? MR_ERR_IO
                                                     : MR_ERR_CONFIG;

    return mr_error_set(why, err, "%s: the session store cannot be opened: %s; %s", store->path,
                        mdb_strerror(rc),
                        damaged              ? MR_STORE_MOVE_AWAY
                        : err == MR_ERR_FULL ? "make room on the disk"
                                             : "check the folder and the disk");
}

/* Only while LMDB has not opened it: to close it here would let go of LMDB's locks. */
static enum mr_err locks_make_room(const struct mr_store *store, struct mr_error *why)
{
    char path[sizeof(store->path) + sizeof("/lock.mdb")];
    struct mr_file file;
    uint64_t bytes = 0;

    (void)snprintf(path, sizeof(path), "%s/lock.mdb", store->path);
    enum mr_err err = mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL);
    if (err == MR_ERR_REJECT) {
        err = mr_file_open(&file, path, MR_FILE_CREATE, NULL);
    }
    if (err == MR_OK) {
        err = mr_file_size(&file, &bytes);
        if (err == MR_OK && bytes < LOCKS_BYTES) {
            err = mr_file_fill_zero(&file, LOCKS_BYTES);
            if (err != MR_OK) { /* what it has may be less than it says */
                (void)!mr_path_remove(path);
            }
        }
        mr_file_close(&file);
    }
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, err, "%s: the session store cannot be opened: %s; %s",
                                       store->path, mr_file_last_cause(),
                                       err == MR_ERR_FULL ? "make room on the disk"
                                                          : "check the folder and the disk");
}

enum mr_err store_env_open(struct mr_store *store, struct mr_error *why)
{
    MDB_txn *txn = NULL;
    uint32_t version = 0;
    enum mr_err err = locks_make_room(store, why);
    int rc = err == MR_OK ? mdb_env_create(&store->env) : 0;

    if (err != MR_OK) {
        return err;
    }
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(store->env, MR_STORE_TABLES + 1);
    }
    if (rc == 0) {
        rc = mdb_env_set_mapsize(store->env, store->map_bytes);
    }
    if (rc == 0) {
        rc = mdb_env_open(store->env, store->path, MDB_NOTLS, 0600);
    }
    if (rc == 0) {
        rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    }
    if (rc == 0) {
        rc = tables_open(store, txn, &version);
    }
    if (rc == 0 && version <= STORE_VERSION) {
        rc = mdb_txn_commit(txn);
    } else if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    if (version > STORE_VERSION) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: the session store was written by a newer millrace (format %u, "
                            "this one knows %u); use that version",
                            store->path, version, (unsigned)STORE_VERSION);
    }
    return rc == 0 ? MR_OK : open_failed(store, rc, why);
}

void store_env_close(struct mr_store *store)
{
    if (store->reading != NULL) {
        mdb_txn_abort(store->reading);
        store->reading = NULL;
    }
    if (store->env != NULL) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
}

/* Closed, opened. */
static bool env_again(struct mr_store *store, struct mr_error *why)
{
    store_env_close(store);
    if (store_env_open(store, why) == MR_OK) {
        return true;
    }
    store_env_close(store);
    return false;
}

/* Opened with twice the map; false: that cannot be had. */
static bool env_grow(struct mr_store *store, struct mr_error *why)
{
    static struct mr_log_limit limit;
    uint64_t had = store->map_bytes;
    uint64_t held = 0;
    MDB_envinfo info;

    if (store->env != NULL && mdb_env_info(store->env, &info) == 0) {
        had = info.me_mapsize; /* more than was asked for, if the file was larger */
    }
    store->map_bytes = 2 * had;
    if (env_again(store, why)) {
        mr_log(MR_LOG_INFO, "sessions", "%s has outgrown %llu MiB; it may have twice as much now",
               store->path, (unsigned long long)(had >> 20));
        return true;
    }
    store->map_bytes = had;
    if (mr_log_allowed(&limit, STORE_SAY_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "sessions",
               "%s has outgrown %llu MiB, and twice as much address space cannot be had: %s; "
               "nothing is lost, the journal keeps what it lacks: allow more (ulimit -v)",
               store->path, (unsigned long long)(had >> 20), why->text);
    }
    return false;
}

bool store_reopen(struct mr_store *store)
{
    int64_t now_ns = mr_clock_mono_ns();
    bool outgrown = atomic_load_explicit(&store->outgrown, memory_order_relaxed);
    struct mr_error why = {.text = ""};

    mr_assert(!store->is_reading);
    if (now_ns < store->reopen_ns) {
        return false;
    }
    bool grown = outgrown && env_grow(store, &why);
    bool open = grown || env_again(store, &why);
    if (outgrown && !grown) {
        atomic_store_explicit(&store->failing, true, memory_order_relaxed);
    }
    store->reopen_ns = grown ? 0 : now_ns + STORE_RETRY_NS / 2;
    if (open) {
        /* The writer is rung only where that has changed something: until he tries again, and
         * perhaps fails, all can be read.
         */
        atomic_store_explicit(&store->outgrown, false, memory_order_relaxed);
        atomic_store_explicit(&store->given_up, false, memory_order_release);
    }
    if (grown && store->thread != NULL) {
        mr_wake_ring(&store->wake);
    }
    return open && grown == outgrown;
}

bool store_is_given_up(const struct mr_store *store)
{
    return atomic_load_explicit(&store->given_up, memory_order_acquire);
}

bool store_env_is_given_up(const struct mr_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (rc == 0) {
        mdb_txn_abort(txn);
    }
    return rc == MDB_PANIC;
}
