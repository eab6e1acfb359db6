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
 * Rejected: writing through MDB_WRITEMAP or without sync.  One flush per checkpoint is
 * nothing, and a torn tree would cost every session.
 *
 * INVARIANTS
 *
 *   (1) sealed => the delta `other` belongs to the writer until `written`.
 *   (2) Keys have at most MR_STORE_KEY_MAX bytes; LMDB allows 511.
 */
#include "store/store_internal.h"

#include "base/bytes.h"
#include "base/log.h"
#include "os/file.h"

#include <stdio.h>

enum {
    DELTA_FIRST_BYTES = 64 << 10,
    OP_BYTES = 12, /* table, op, key length (u16), value length (u32), zero (u32) */
    OP_PUT = 1,
    OP_DELETE = 2,
};
static const uint64_t map_bytes_default = UINT64_C(64) << 30;

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

static void owner_ring(const struct mr_store *store)
{
    if (store->owner != NULL) {
        mr_wake_ring(store->owner);
    }
}

static void write_failed(struct mr_store *store, int rc)
{
    static struct mr_log_limit limit;
    bool outgrown = rc == MDB_MAP_FULL; /* no failure, unless it cannot grow */
    uint64_t held = 0;

    if (!outgrown && mr_log_allowed(&limit, STORE_SAY_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "sessions",
               "%s cannot be written: %s; nothing is lost, the journal keeps what it lacks, and it "
               "is tried again every second; check the disk",
               store->path, mdb_strerror(rc));
    }
    if (!outgrown) {
        atomic_store_explicit(&store->failing, true, memory_order_relaxed);
    }
    if (outgrown || store_env_is_given_up(store)) {
        atomic_store_explicit(&store->outgrown, outgrown, memory_order_relaxed);
        atomic_store_explicit(&store->given_up, true, memory_order_release);
        owner_ring(store);
    }
}

/* Try once to write what was submitted.  False: it could not be written. */
static bool store_write(struct mr_store *store)
{
    if (store_is_given_up(store)) {
        owner_ring(store); /* once a second: he may not have been able to open it */
        return false;
    }
    int rc = delta_write(store, &store->sealed);
    if (rc != 0) {
        write_failed(store, rc);
        return false;
    }
    atomic_store_explicit(&store->failing, false, memory_order_relaxed);
    atomic_store_explicit(&store->submitted, false, memory_order_relaxed);
    atomic_store_explicit(&store->written, true, memory_order_release);
    owner_ring(store);
    return true;
}

/* Where there is no thread, or it has ended. */
static void write_alone(struct mr_store *store)
{
    bool again = true;

    while (again && !store_write(store)) {
        again = atomic_load_explicit(&store->outgrown, memory_order_relaxed) &&
                !store->is_reading && store_reopen(store);
    }
}

static void store_run(void *arg)
{
    struct mr_store *store = arg;

    while (!atomic_load_explicit(&store->stopping, memory_order_acquire)) {
        bool failed = false;

        if (atomic_load_explicit(&store->submitted, memory_order_acquire)) {
            failed = !store_write(store);
        }
        (void)mr_wake_wait(&store->wake, failed ? STORE_RETRY_NS : -1);
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
    store->map_bytes = options->map_bytes != 0 ? options->map_bytes : map_bytes_default;
    err = store_env_open(store, why);
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
    store->thread = NULL;
    store->owner = NULL;
    mr_store_read_end(store);
    if (store_is_given_up(store)) {
        store->reopen_ns = 0;
        (void)store_reopen(store);
    }
    if (atomic_load_explicit(&store->submitted, memory_order_acquire)) {
        write_alone(store);
    }
    if (store->wake.fd >= 0) {
        mr_wake_close(&store->wake);
    }
    store_env_close(store);
    mr_free(store->gathering.bytes);
    mr_free(store->sealed.bytes);
    mr_free(store);
}

bool mr_store_clear(struct mr_store *store)
{
    MDB_txn *txn = NULL;
    int rc = store->env == NULL ? MDB_PANIC : mdb_txn_begin(store->env, NULL, 0, &txn);

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
        write_alone(store);
    }
}

bool mr_store_is_failing(const struct mr_store *store)
{
    return atomic_load_explicit(&store->failing, memory_order_relaxed);
}

bool mr_store_take_written(struct mr_store *store)
{
    if (MR_UNLIKELY(store_is_given_up(store)) && !store->is_reading) {
        (void)store_reopen(store);
    }
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
    if (MR_UNLIKELY(store_is_given_up(store))) {
        (void)store_reopen(store);
    }
    if (MR_UNLIKELY(store->env == NULL)) {
        return MDB_PANIC;
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
    if (go_on && rc != MDB_NOTFOUND) {
        mr_log(MR_LOG_ERROR, "sessions", "%s cannot be read: %s; check the disk", store->path,
               mdb_strerror(rc));
    }
    return go_on && rc == MDB_NOTFOUND;
}
