/* store.c - see store.h.
 *
 * DESIGN
 *
 * A delta is a run of operations in one growing buffer: {table, op, key length, value
 * length, key, value}.  The owner appends to one delta while the thread writes the
 * other; they change places at seal.  A delta that cannot be written is kept and tried
 * again, because whoever gathered it has forgotten what was in it.
 *
 * LMDB readers see the last transaction and never wait for the writer, so the owner
 * may look up a message while a delta is being written.
 *
 * What the rows look like has a version, in a table of its own.  A store without one is of
 * version 1.  Rows of older versions are read as they are; whoever opens a store writes his
 * own version first, so that an older program refuses what it could not read.
 *
 * Rejected: writing through MDB_WRITEMAP or without sync.  One flush per checkpoint is
 * nothing, and a torn tree would cost every session.
 *
 * INVARIANTS
 *
 *   (1) sealed => the delta `other` belongs to the writer until `written`.
 *   (2) Keys have at most MR_STORE_KEY_MAX bytes; LMDB allows 511.
 */
#include "store/store.h"

#include "base/bytes.h"
#include "base/log.h"
#include "os/file.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>

enum {
    DELTA_FIRST_BYTES = 64 << 10,
    STORE_VERSION = 2, /* 1: without a version, and no names in messages */
    OP_BYTES = 12,     /* table, op, key length (u16), value length (u32), zero (u32) */
    OP_PUT = 1,
    OP_DELETE = 2,
    RETRY_NS = 1000000000,
    SAY_EVERY_US = 60000000,
};
static const uint64_t map_bytes_default = UINT64_C(64) << 30;

static const char *const table_names[MR_STORE_TABLES] = {
    [MR_STORE_VECTOR] = "vector",
    [MR_STORE_SESSIONS] = "sessions",
    [MR_STORE_SUBSCRIPTIONS] = "subscriptions",
    [MR_STORE_DELIVERIES] = "deliveries",
    [MR_STORE_MESSAGES] = "messages",
    [MR_STORE_RETAINED] = "retained",
};

struct delta {
    uint8_t *bytes;
    size_t used;
    size_t capacity;
};

struct mr_store {
    MDB_env *env;
    MDB_dbi tables[MR_STORE_TABLES];
    MDB_txn *reading; /* the owner's snapshot; NULL: none yet */
    bool is_reading;
    struct delta gathering;
    struct delta sealed;
    bool is_sealed; /* owner */
    struct mr_thread *thread;
    struct mr_wake wake;
    struct mr_wake *owner;
    _Atomic bool submitted;
    _Atomic bool written;
    _Atomic bool failing;
    _Atomic bool stopping;
    char path[512];
};

/* ---- open ---- */

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
                        damaged ? "move the folder away to start without it; the journal still "
                                  "has what was not settled"
                        : err == MR_ERR_FULL ? "make room on the disk"
                                             : "check the folder and the disk");
}

static enum mr_err store_env_open(struct mr_store *store, const struct mr_store_options *options,
                                  struct mr_error *why)
{
    MDB_txn *txn = NULL;
    uint32_t version = 0;
    int rc = mdb_env_create(&store->env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(store->env, MR_STORE_TABLES + 1);
    }
    if (rc == 0) {
        rc = mdb_env_set_mapsize(store->env,
                                 options->bytes_max != 0 ? options->bytes_max : map_bytes_default);
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

/* ---- writing ---- */

static int op_apply(const struct mr_store *store, MDB_txn *txn, const uint8_t *op)
{
    MDB_val key = {.mv_size = mr_get_u16(op + 2), .mv_data = (void *)(uintptr_t)(op + OP_BYTES)};
    MDB_val value = {.mv_size = mr_get_u32(op + 4),
                     .mv_data = (void *)(uintptr_t)(op + OP_BYTES + key.mv_size)};

    if (op[1] == OP_PUT) {
        return mdb_put(txn, store->tables[op[0]], &key, &value, 0);
    }
    int rc = mdb_del(txn, store->tables[op[0]], &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int delta_write(const struct mr_store *store, const struct delta *delta)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    size_t at = 0;

    while (rc == 0 && at < delta->used) {
        const uint8_t *op = delta->bytes + at;
        rc = op_apply(store, txn, op);
        at += OP_BYTES + mr_get_u16(op + 2) + mr_get_u32(op + 4);
    }
    if (rc == 0) {
        return mdb_txn_commit(txn);
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    return rc;
}

/* Try once to write what was submitted.  False: it could not be written. */
static bool store_write(struct mr_store *store)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    int rc = delta_write(store, &store->sealed);
    if (rc != 0) {
        if (mr_log_allowed(&limit, SAY_EVERY_US, &held)) {
            mr_log(
                MR_LOG_ERROR, "sessions",
                "%s cannot be written: %s; nothing is lost, the journal keeps what it lacks, and "
                "it is tried again every second; check the disk",
                store->path, mdb_strerror(rc));
        }
        atomic_store_explicit(&store->failing, true, memory_order_relaxed);
        return false;
    }
    atomic_store_explicit(&store->failing, false, memory_order_relaxed);
    atomic_store_explicit(&store->submitted, false, memory_order_relaxed);
    atomic_store_explicit(&store->written, true, memory_order_release);
    if (store->owner != NULL) {
        mr_wake_ring(store->owner);
    }
    return true;
}

static void store_run(void *arg)
{
    struct mr_store *store = arg;

    while (!atomic_load_explicit(&store->stopping, memory_order_acquire)) {
        bool failed = false;

        if (atomic_load_explicit(&store->submitted, memory_order_acquire)) {
            failed = !store_write(store);
        }
        (void)mr_wake_wait(&store->wake, failed ? RETRY_NS : -1);
    }
}

enum mr_err mr_store_open(struct mr_store **out, const struct mr_store_options *options,
                          struct mr_error *why)
{
    *out = NULL;
    enum mr_err err = mr_dir_create(options->path, why);
    if (err != MR_OK) {
        return err;
    }
    if (strlen(options->path) >= sizeof(((struct mr_store *)0)->path)) {
        return mr_error_set(why, MR_ERR_CONFIG, "%s: the path is too long", options->path);
    }
    char file[sizeof(((struct mr_store *)0)->path) + sizeof("/data.mdb")];
    (void)snprintf(file, sizeof(file), "%s/data.mdb", options->path);
    bool is_new = !mr_path_exists(file);
    struct mr_store *store = mr_alloc(sizeof(*store));
    memcpy(store->path, options->path, strlen(options->path) + 1);
    store->owner = options->owner;
    store->wake.fd = -1;
    err = store_env_open(store, options, why);
    if (err == MR_OK && mr_dir_sync(store->path) != MR_OK) { /* its file has to stay */
        err = mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk", store->path,
                           mr_file_last_cause());
    }
    if (err == MR_OK && !options->manual) {
        err = mr_wake_open(&store->wake, why);
        if (err == MR_OK) {
            err = mr_thread_start(&store->thread, "sessions", store_run, store, why);
        } else {
            store->wake.fd = -1;
        }
    }
    if (err != MR_OK) {
        mr_store_close(store);
        if (is_new) { /* a page that was written in part would not be taken for one */
            (void)!mr_path_remove(file);
        }
        return err;
    }
    *out = store;
    return MR_OK;
}

void mr_store_close(struct mr_store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->thread != NULL) {
        atomic_store_explicit(&store->stopping, true, memory_order_release);
        mr_wake_ring(&store->wake);
        mr_thread_join(store->thread);
    }
    store->owner = NULL;
    if (atomic_load_explicit(&store->submitted, memory_order_acquire)) {
        (void)store_write(store);
    }
    if (store->wake.fd >= 0) {
        mr_wake_close(&store->wake);
    }
    if (store->reading != NULL) {
        mdb_txn_abort(store->reading);
    }
    if (store->env != NULL) {
        mdb_env_close(store->env);
    }
    mr_free(store->gathering.bytes);
    mr_free(store->sealed.bytes);
    mr_free(store);
}

bool mr_store_clear(struct mr_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    for (int i = 0; i < MR_STORE_TABLES && rc == 0; i++) {
        rc = mdb_drop(txn, store->tables[i], 0);
    }
    if (rc == 0) {
        return mdb_txn_commit(txn) == 0;
    }
    if (txn != NULL) {
        mdb_txn_abort(txn);
    }
    return false;
}

/* ---- gathering ---- */

static uint8_t *delta_op(struct delta *delta, enum mr_store_table table, uint8_t kind,
                         struct mr_span key, size_t value_len)
{
    size_t bytes = OP_BYTES + key.len + value_len;

    mr_assert(key.len <= MR_STORE_KEY_MAX && value_len <= UINT32_MAX); /* (2) */
    if (delta->capacity - delta->used < bytes) {
        size_t capacity = delta->capacity == 0 ? DELTA_FIRST_BYTES : delta->capacity * 2;
        while (capacity - delta->used < bytes) {
            capacity *= 2;
        }
        delta->bytes = mr_realloc(delta->bytes, capacity);
        delta->capacity = capacity;
    }
    uint8_t *op = delta->bytes + delta->used;
    op[0] = (uint8_t)table;
    op[1] = kind;
    mr_put_u16(op + 2, (uint16_t)key.len);
    mr_put_u32(op + 4, (uint32_t)value_len);
    mr_put_u32(op + 8, 0);
    memcpy(op + OP_BYTES, key.at, key.len);
    delta->used += bytes;
    return op + OP_BYTES + key.len;
}

uint8_t *mr_store_put_room(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                           size_t len)
{
    return delta_op(&store->gathering, table, OP_PUT, key, len);
}

void mr_store_put(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                  struct mr_span value)
{
    uint8_t *room = mr_store_put_room(store, table, key, value.len);

    if (value.len != 0) {
        memcpy(room, value.at, value.len);
    }
}

void mr_store_delete(struct mr_store *store, enum mr_store_table table, struct mr_span key)
{
    (void)delta_op(&store->gathering, table, OP_DELETE, key, 0);
}

size_t mr_store_gathered(const struct mr_store *store)
{
    return store->gathering.used;
}

void mr_store_seal(struct mr_store *store)
{
    struct delta free_one = store->sealed;

    mr_assert(!store->is_sealed); /* (1) */
    store->sealed = store->gathering;
    free_one.used = 0;
    store->gathering = free_one;
    store->is_sealed = true;
}

void mr_store_submit(struct mr_store *store)
{
    mr_assert(store->is_sealed);
    atomic_store_explicit(&store->submitted, true, memory_order_release);
    if (store->thread != NULL) {
        mr_wake_ring(&store->wake);
    } else {
        (void)store_write(store);
    }
}

bool mr_store_is_failing(const struct mr_store *store)
{
    return atomic_load_explicit(&store->failing, memory_order_relaxed);
}

bool mr_store_take_written(struct mr_store *store)
{
    if (!atomic_load_explicit(&store->written, memory_order_acquire)) {
        return false;
    }
    atomic_store_explicit(&store->written, false, memory_order_relaxed);
    store->is_sealed = false;
    if (store->sealed.capacity > 64 * (size_t)DELTA_FIRST_BYTES) { /* do not sit on a peak */
        mr_free(store->sealed.bytes);
        store->sealed = (struct delta){.bytes = NULL};
    }
    return true;
}

/* ---- reading ---- */

static int reading_begin(struct mr_store *store)
{
    int rc = 0;

    if (store->is_reading) {
        return 0;
    }
    if (store->reading == NULL) {
        rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reading);
        if (rc != 0) {
            store->reading = NULL;
        }
    } else {
        rc = mdb_txn_renew(store->reading);
    }
    store->is_reading = rc == 0;
    return rc;
}

enum mr_err mr_store_get(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                         struct mr_span *value)
{
    MDB_val k = {.mv_size = key.len, .mv_data = (void *)(uintptr_t)key.at};
    MDB_val v;
    int rc = reading_begin(store);

    if (rc == 0) {
        rc = mdb_get(store->reading, store->tables[table], &k, &v);
    }
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? MR_ERR_REJECT : MR_ERR_IO;
    }
    *value = mr_span_make(v.mv_data, v.mv_size);
    return MR_OK;
}

void mr_store_read_end(struct mr_store *store)
{
    if (store->is_reading) {
        mdb_txn_reset(store->reading);
        store->is_reading = false;
    }
}

bool mr_store_each(struct mr_store *store, enum mr_store_table table,
                   bool (*each)(void *arg, struct mr_span key, struct mr_span value), void *arg)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val value;
    bool go_on = true;
    int rc = reading_begin(store);

    if (rc == 0) {
        rc = mdb_cursor_open(store->reading, store->tables[table], &cursor);
    }
    while (rc == 0 && go_on) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (rc == 0) {
            go_on = each(arg, mr_span_make(key.mv_data, key.mv_size),
                         mr_span_make(value.mv_data, value.mv_size));
        }
    }
    if (cursor != NULL) {
        mdb_cursor_close(cursor);
    }
    mr_store_read_end(store);
    return go_on && rc == MDB_NOTFOUND;
}
