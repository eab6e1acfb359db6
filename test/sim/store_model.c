/* store_model.c - store.h without LMDB: tables in memory that outlive the gateway.
 *
 * What LMDB promises is all there is: a delta is applied as a whole or not at all, and it
 * is there for good when that has been told.  A crash between may leave either.
 */
#include "world.h"

#include "base/bytes.h"
#include "os/file.h"
#include "os/sim.h"
#include "os/thread.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

enum { STORES_MAX = 1024, PATH_BYTES = 96, RETRY_NS = 1000 * NS_PER_MS };

struct row {
    struct row *next; /* list of those that are in no table yet */
    struct row **link;
    uint8_t *value;
    size_t value_len;
    size_t key_len;
    uint8_t key[];
};

struct table {
    struct row **rows; /* by key */
    size_t count;
    size_t room;
};

/* What is in the file; the file itself, of the simulated disk, says only which one it is, so
 * that it moves and goes with its folder.  It is spared all faults: one that lost its number, or
 * got it wrong, would be a store that LMDB has mixed up with another one.
 */
struct disk {
    struct table tables[MR_STORE_TABLES];
};

struct op {
    struct op *next;
    enum mr_store_table table;
    bool is_put;
    struct row *row; /* NULL: it is a table's now */
};

struct delta {
    struct op *first;
    struct op **last;
    size_t bytes;
};

struct mr_store {
    struct disk *disk;
    struct delta gathering;
    struct delta sealed;
    bool is_sealed;
    bool submitted;
    bool written;
    bool failing;
    bool stopping;
    struct mr_thread *thread;
    struct mr_wake wake;
    struct mr_wake *owner;
};

static struct disk disks[STORES_MAX];
static uint32_t disk_count;
static struct row *loose; /* a crash leaves those of its deltas */
static bool fails;

static void row_add_loose(struct row *row)
{
    row->next = loose;
    row->link = &loose;
    if (loose != NULL) {
        loose->link = &row->next;
    }
    loose = row;
}

static void row_fix(struct row *row)
{
    if (row->link != NULL) {
        *row->link = row->next;
        if (row->next != NULL) {
            row->next->link = row->link;
        }
        row->link = NULL;
    }
}

static void row_free(struct row *row)
{
    if (row != NULL) {
        row_fix(row);
        mr_free(row->value);
        mr_free(row);
    }
}

void store_model_fail(bool on)
{
    fails = on;
}

void store_model_end(void)
{
    for (uint32_t i = 0; i < disk_count; i++) {
        for (int table = 0; table < MR_STORE_TABLES; table++) {
            struct table *rows = &disks[i].tables[table];
            for (size_t row = 0; row < rows->count; row++) {
                row_free(rows->rows[row]);
            }
            mr_free(rows->rows);
        }
    }
    while (loose != NULL) {
        row_free(loose);
    }
    memset(disks, 0, sizeof(disks));
    disk_count = 0;
}

static enum mr_err file_make(struct mr_file *file, const char *folder, const char *path)
{
    uint8_t number[4];
    struct mr_span part = mr_span_make(number, sizeof(number));

    mr_assert(disk_count < STORES_MAX);
    mr_put_u32(number, disk_count);
    disk_count += 1; /* never again, even if the file comes to nothing */
    enum mr_err err = mr_file_open(file, path, MR_FILE_CREATE, NULL);
    if (err == MR_OK) {
        err = mr_file_write(file, &part, 1, 0);
    }
    if (err == MR_OK) {
        err = mr_file_sync(file);
    }
    if (err == MR_OK) {
        err = mr_dir_sync(folder);
    }
    return err;
}

/* A file for whose number there was no room is a new one. */
static enum mr_err file_find(const char *folder, struct disk **out)
{
    struct mr_file file;
    char path[PATH_BYTES];
    uint8_t number[4];
    size_t got = 0;
    enum mr_err err = MR_OK;

    (void)snprintf(path, sizeof(path), "%s/data.mdb", folder);
    if (mr_path_exists(path)) {
        err = mr_file_open(&file, path, MR_FILE_READ, NULL);
        if (err == MR_OK) {
            err = mr_file_read(&file, number, sizeof(number), 0, &got);
            mr_file_close(&file);
        }
        if (err == MR_OK && got == sizeof(number)) {
            *out = &disks[mr_get_u32(number)];
            return MR_OK;
        }
        err = err == MR_OK ? mr_path_remove(path) : err;
    }
    if (err == MR_OK) {
        *out = &disks[disk_count];
        err = file_make(&file, folder, path);
        mr_file_close(&file);
    }
    return err;
}

/* To open it may fail, and take the machine with it, before there is a file and after. */
static enum mr_err disk_open(const char *folder, struct disk **out)
{
    enum mr_err err = mr_dir_create(folder, NULL);

    if (err == MR_OK) {
        err = mr_dir_sync(folder);
    }
    if (err == MR_OK) {
        mr_sim_spare(true);
        err = file_find(folder, out);
        mr_sim_spare(false);
    }
    return err == MR_OK ? mr_dir_sync(folder) : err;
}

/* ---- rows ---- */

static int key_compare(const struct row *a, const uint8_t *key, size_t len)
{
    int order = memcmp(a->key, key, a->key_len < len ? a->key_len : len);

    return order != 0 ? order : (a->key_len > len) - (a->key_len < len);
}

/* The first row that is not below `key`. */
static size_t table_find(const struct table *table, const uint8_t *key, size_t len, bool *found)
{
    size_t low = 0;
    size_t high = table->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (key_compare(table->rows[middle], key, len) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < table->count && key_compare(table->rows[low], key, len) == 0;
    return low;
}

static void table_apply(struct table *table, struct op *op)
{
    bool found;
    size_t at = table_find(table, op->row->key, op->row->key_len, &found);

    if (found) {
        row_free(table->rows[at]);
    }
    if (!op->is_put) {
        if (found) {
            table->count -= 1;
            memmove(&table->rows[at], &table->rows[at + 1],
                    (table->count - at) * sizeof(table->rows[0]));
        }
        return;
    }
    if (!found) {
        if (table->count == table->room) {
            table->room = table->room == 0 ? 64 : 2 * table->room;
            mr_sim_own(true);
            table->rows = mr_realloc(table->rows, table->room * sizeof(table->rows[0]));
            mr_sim_own(false);
        }
        memmove(&table->rows[at + 1], &table->rows[at],
                (table->count - at) * sizeof(table->rows[0]));
        table->count += 1;
    }
    row_fix(op->row);
    table->rows[at] = op->row;
    op->row = NULL;
}

static void delta_open(struct delta *delta)
{
    *delta = (struct delta){.first = NULL};
    delta->last = &delta->first;
}

static void delta_close(struct delta *delta)
{
    while (delta->first != NULL) {
        struct op *op = delta->first;
        delta->first = op->next;
        row_free(op->row);
        mr_free(op);
    }
    delta_open(delta);
}

/* ---- the writer ---- */

static bool delta_write(struct mr_store *store)
{
    if (plan.sync_ns_max != 0) {
        (void)mr_wake_wait(&store->wake, (int64_t)roll((uint64_t)plan.sync_ns_max));
    }
    if (fails && !world_is_calm) {
        store->failing = true;
        return false;
    }
    for (struct op *op = store->sealed.first; op != NULL; op = op->next) {
        table_apply(&store->disk->tables[op->table], op);
    }
    (void)mr_wake_wait(&store->wake, 0); /* a crash here: done, and nobody was told */
    store->failing = false;
    store->submitted = false;
    store->written = true;
    if (store->owner != NULL) {
        mr_wake_ring(store->owner);
    }
    return true;
}

static void store_run(void *arg)
{
    struct mr_store *store = arg;

    while (!store->stopping) {
        bool failed = store->submitted && !delta_write(store);
        if (!store->stopping && (!store->submitted || failed)) { /* a write takes rings too */
            (void)mr_wake_wait(&store->wake, failed ? RETRY_NS : -1);
        }
    }
}

/* ---- store.h ---- */

enum mr_err mr_store_open(struct mr_store **out, const struct mr_store_options *options,
                          struct mr_error *why)
{
    struct mr_store *store = mr_alloc(sizeof(*store));

    if (disk_open(options->path, &store->disk) != MR_OK) {
        mr_free(store);
        return mr_error_set(why, MR_ERR_CONFIG, "%s: the session store cannot be opened: %s",
                            options->path, mr_file_last_cause());
    }
    store->owner = options->owner;
    delta_open(&store->gathering);
    delta_open(&store->sealed);
    mr_assert(mr_wake_open(&store->wake, why) == MR_OK);
    *out = store;
    if (options->manual) {
        return MR_OK;
    }
    return mr_thread_start(&store->thread, "sessions", store_run, store, why);
}

void mr_store_close(struct mr_store *store)
{
    if (store == NULL) {
        return;
    }
    store->stopping = true;
    mr_wake_ring(&store->wake);
    if (store->thread != NULL) {
        mr_thread_join(store->thread);
    }
    store->owner = NULL;
    if (store->submitted) {
        (void)delta_write(store);
    }
    mr_wake_close(&store->wake);
    delta_close(&store->gathering);
    delta_close(&store->sealed);
    mr_free(store);
}

bool mr_store_each(struct mr_store *store, enum mr_store_table table,
                   bool (*each)(void *arg, struct mr_span key, struct mr_span value), void *arg)
{
    const struct table *rows = &store->disk->tables[table];

    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = rows->rows[i];
        if (!each(arg, mr_span_make(row->key, row->key_len),
                  mr_span_make(row->value, row->value_len))) {
            return false;
        }
    }
    return true;
}

bool mr_store_clear(struct mr_store *store)
{
    for (int i = 0; i < MR_STORE_TABLES; i++) {
        struct table *table = &store->disk->tables[i];
        for (size_t j = 0; j < table->count; j++) {
            row_free(table->rows[j]);
        }
        table->count = 0;
    }
    return true;
}

static struct op *op_new(struct mr_store *store, enum mr_store_table table, struct mr_span key)
{
    struct op *op = mr_alloc(sizeof(*op));

    mr_assert(key.len <= MR_STORE_KEY_MAX);
    op->table = table;
    mr_sim_own(true); /* it becomes the table's */
    op->row = mr_alloc(sizeof(*op->row) + key.len);
    mr_sim_own(false);
    row_add_loose(op->row);
    op->row->key_len = key.len;
    memcpy(op->row->key, key.at, key.len);
    *store->gathering.last = op;
    store->gathering.last = &op->next;
    store->gathering.bytes += 12 + key.len;
    return op;
}

uint8_t *mr_store_put_room(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                           size_t len)
{
    struct op *op = op_new(store, table, key);

    op->is_put = true;
    mr_sim_own(true); /* it becomes the table's */
    op->row->value = mr_alloc(len);
    mr_sim_own(false);
    op->row->value_len = len;
    store->gathering.bytes += len;
    return op->row->value;
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
    (void)op_new(store, table, key);
}

size_t mr_store_gathered(const struct mr_store *store)
{
    return store->gathering.bytes;
}

void mr_store_seal(struct mr_store *store)
{
    mr_assert(!store->is_sealed && store->sealed.first == NULL);
    store->sealed = store->gathering;
    if (store->sealed.first == NULL) {
        delta_open(&store->sealed);
    }
    delta_open(&store->gathering);
    store->is_sealed = true;
}

void mr_store_submit(struct mr_store *store)
{
    mr_assert(store->is_sealed);
    store->submitted = true;
    if (store->thread != NULL) {
        mr_wake_ring(&store->wake);
    } else {
        (void)delta_write(store);
    }
}

bool mr_store_is_failing(const struct mr_store *store)
{
    return store->failing;
}

bool mr_store_take_written(struct mr_store *store)
{
    if (!store->written) {
        return false;
    }
    store->written = false;
    store->is_sealed = false;
    delta_close(&store->sealed);
    return true;
}

enum mr_err mr_store_get(struct mr_store *store, enum mr_store_table table, struct mr_span key,
                         struct mr_span *value)
{
    const struct table *rows = &store->disk->tables[table];
    bool found;
    size_t at = table_find(rows, key.at, key.len, &found);

    if (!found) {
        return MR_ERR_REJECT;
    }
    *value = mr_span_make(rows->rows[at]->value, rows->rows[at]->value_len);
    return MR_OK;
}

void mr_store_read_end(struct mr_store *store)
{
    (void)store;
}
