/* test_store.c
 * links: store os base
 *
 * Goal:   a delta is in the store as a whole, or not at all and is tried again; what was
 *         put is found after a restart, in the order of the keys; a store grows as long as the
 *         disk does, and one that cannot loses nothing and says so; a newer format is refused and
 * left as it is. Method: a store in a folder of its own against a model of its rows; deltas at
 * random.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/rng.h"
#include "os/clock.h"
#include "store/store.h"

#include <dlfcn.h>
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KEYS = 200 };

static char folder[256];
static uint32_t model[MR_STORE_TABLES][KEYS]; /* value of a key; 0: no row */

/* ---- a disk that fails: LMDB finds these before those of the C library ---- */

static int calls_left = -1; /* until one fails; -1: none does */
static int call_errno;      /* how; of a write 0: a part is written */

static bool call_fails(void)
{
    calls_left -= calls_left >= 0;
    if (calls_left != 0) {
        return false;
    }
    calls_left = -1;
    return true;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    if (call_fails()) {
        if (call_errno != 0) {
            errno = call_errno;
            return -1;
        }
        len /= 2;
    }
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

/* What is written beside LMDB: the places of its locks. */
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    if (call_errno != 0 && call_fails()) {
        errno = call_errno;
        return -1;
    }
    return syscall(SYS_pwritev, fd, parts, count, (long)at, 0L);
}

int fdatasync(int fd)
{
    if (call_fails()) {
        errno = call_errno == 0 ? EIO : call_errno;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- address space that cannot be had ---- */

static size_t map_bytes_most = SIZE_MAX;

int mdb_env_set_mapsize(MDB_env *env, size_t bytes)
{
    static int (*theirs)(MDB_env *env, size_t bytes);

    if (theirs == NULL) {
        void *found = dlsym(RTLD_NEXT, "mdb_env_set_mapsize");
        memcpy(&theirs, &found, sizeof(found)); /* ISO C knows no pointer to both */
    }
    return bytes > map_bytes_most ? ENOMEM : theirs(env, bytes);
}

/* ---- a store ---- */

static struct mr_store *store_open(bool manual, uint64_t map_bytes, struct mr_wake *owner)
{
    struct mr_store *store = NULL;
    struct mr_error why = {.text = ""};

    if (mr_store_open(&store,
                      &(struct mr_store_options){
                          .path = folder, .map_bytes = map_bytes, .owner = owner, .manual = manual},
                      &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return store;
}

static void folder_make(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/mr-store-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
    memset(model, 0, sizeof(model));
}

static void folder_remove(void)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/data.mdb", folder);
    mr_assert(unlink(path) == 0);
    (void)snprintf(path, sizeof(path), "%s/lock.mdb", folder);
    mr_assert(unlink(path) == 0);
    mr_assert(rmdir(folder) == 0);
}

static void put(struct mr_store *store, int table, uint32_t key, uint32_t value)
{
    uint8_t k[4];
    uint8_t v[4];

    mr_put_be32(k, key);
    mr_put_u32(v, value);
    mr_store_put(store, (enum mr_store_table)table, mr_span_make(k, 4), mr_span_make(v, 4));
}

static void delete(struct mr_store *store, int table, uint32_t key)
{
    uint8_t k[4];

    mr_put_be32(k, key);
    mr_store_delete(store, (enum mr_store_table)table, mr_span_make(k, 4));
}

struct seen {
    int table;
    int64_t key_last;
    uint32_t count;
};

static bool check_row(void *arg, struct mr_span key, struct mr_span value)
{
    struct seen *seen = arg;
    uint32_t k = mr_get_be32(key.at);

    mr_assert(key.len == 4 && value.len == 4 && (int64_t)k > seen->key_last);
    mr_assert(mr_get_u32(value.at) == model[seen->table][k]);
    seen->key_last = k;
    seen->count += 1;
    return true;
}

static void check(struct mr_store *store)
{
    for (int table = 0; table < MR_STORE_TABLES; table++) {
        struct seen seen = {.table = table, .key_last = -1};
        uint32_t rows = 0;

        mr_assert(mr_store_each(store, (enum mr_store_table)table, check_row, &seen));
        for (uint32_t key = 0; key < KEYS; key++) {
            uint8_t k[4];
            struct mr_span value;
            mr_put_be32(k, key);
            enum mr_err err =
                mr_store_get(store, (enum mr_store_table)table, mr_span_make(k, 4), &value);
            mr_assert(err == (model[table][key] == 0 ? MR_ERR_REJECT : MR_OK));
            mr_assert(err != MR_OK || mr_get_u32(value.at) == model[table][key]);
            rows += model[table][key] != 0;
        }
        mr_assert(rows == seen.count);
    }
    mr_store_read_end(store);
}

static void test_model(void)
{
    uint64_t seed = (uint64_t)mr_clock_wall_us();
    struct mr_rng rng;

    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    mr_rng_seed(&rng, seed);
    folder_make();
    struct mr_store *store = store_open(true, 0, NULL);
    for (int round = 0; round < 60; round++) {
        for (uint64_t ops = mr_rng_below(&rng, 300); ops > 0; ops--) {
            int table = (int)mr_rng_below(&rng, MR_STORE_TABLES);
            uint32_t key = (uint32_t)mr_rng_below(&rng, KEYS);
            uint32_t value = mr_rng_below(&rng, 3) == 0 ? 0 : (uint32_t)mr_rng_u64(&rng) | 1;
            if (value == 0) {
                delete (store, table, key);
            } else {
                put(store, table, key, value);
            }
            model[table][key] = value;
        }
        mr_store_seal(store);
        put(store, 1, 1, 4242); /* of the next delta: not seen, and forgotten at a close */
        mr_store_submit(store);
        mr_assert(mr_store_take_written(store) && !mr_store_take_written(store));
        check(store);
        if (mr_rng_below(&rng, 4) == 0) {
            mr_store_close(store);
            store = store_open(true, 0, NULL);
            check(store);
        } else {
            model[1][1] = 4242; /* it will be written with the next one */
        }
    }
    mr_assert(mr_store_clear(store));
    memset(model, 0, sizeof(model));
    check(store);
    mr_store_close(store);
    folder_remove();
}

/* The thread writes, and rings. */
static void test_thread(void)
{
    struct mr_wake wake;

    folder_make();
    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    struct mr_store *store = store_open(false, 0, &wake);
    for (uint32_t round = 1; round < 50; round++) {
        for (uint32_t key = 0; key < KEYS; key++) {
            put(store, MR_STORE_MESSAGES, key, round);
            model[MR_STORE_MESSAGES][key] = round;
        }
        mr_store_seal(store);
        mr_store_submit(store);
        while (!mr_store_take_written(store)) {
            mr_assert(mr_wake_wait(&wake, 20000000000));
        }
        check(store);
    }
    mr_store_close(store);
    mr_wake_close(&wake);
    folder_remove();
}

/* Row 8, and for a while more than a store of 256 KiB takes. */
static void submit_large(struct mr_store *store)
{
    static uint8_t large[100000];
    uint8_t key[4] = {0, 0, 0, 1};

    put(store, MR_STORE_SESSIONS, 8, 8);
    for (key[2] = 0; key[2] < 10; key[2]++) {
        mr_store_put(store, MR_STORE_MESSAGES, mr_span_make(key, 4),
                     mr_span_make(large, sizeof(large)));
    }
    for (key[2] = 0; key[2] < 10; key[2]++) {
        mr_store_delete(store, MR_STORE_MESSAGES, mr_span_make(key, 4));
    }
    mr_store_seal(store);
    mr_store_submit(store);
}

/* What outgrows the map of the file gets a larger one, whoever writes. */
static void test_outgrown(void)
{
    for (int manual = 0; manual < 2; manual++) {
        struct mr_wake wake;

        folder_make();
        mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
        struct mr_store *store = store_open(manual != 0, 256 << 10, &wake);
        submit_large(store);
        while (!mr_store_take_written(store)) {
            mr_assert(!mr_store_is_failing(store));
            mr_assert(mr_wake_wait(&wake, 20000000000));
        }
        model[MR_STORE_SESSIONS][8] = 8;
        check(store);
        mr_store_close(store);
        store = store_open(true, 64 << 10, NULL); /* less than there is */
        check(store);
        submit_large(store);
        mr_assert(mr_store_take_written(store));
        check(store);
        mr_store_close(store);
        mr_wake_close(&wake);
        folder_remove();
    }
}

/* Where there is no address space for that, nothing is written by halves, all can be read, and it
 * is tried again.
 */
static void test_full(void)
{
    folder_make();
    struct mr_store *store = store_open(true, 256 << 10, NULL);
    put(store, MR_STORE_SESSIONS, 7, 7);
    model[MR_STORE_SESSIONS][7] = 7;
    mr_store_seal(store);
    mr_store_submit(store);
    mr_assert(mr_store_take_written(store));
    map_bytes_most = 256 << 10;
    submit_large(store);
    mr_assert(!mr_store_take_written(store) && mr_store_is_failing(store));
    check(store); /* row 8 is not there either */
    mr_store_submit(store);
    mr_assert(!mr_store_take_written(store));
    check(store);
    map_bytes_most = SIZE_MAX;
    mr_store_close(store); /* the last try */
    model[MR_STORE_SESSIONS][8] = 8;
    store = store_open(true, 0, NULL);
    check(store);
    mr_store_close(store);
    folder_remove();
}

static void test_not_a_folder(void)
{
    struct mr_store *store = NULL;
    struct mr_error why = {.text = ""};

    mr_assert(mr_store_open(&store, &(struct mr_store_options){.path = "/dev/null/x"}, &why) !=
              MR_OK);
    mr_assert(store == NULL && strstr(why.text, "/dev/null") != NULL);
}

/* A first start that fails says whether it is the disk's room or the disk, not the configuration;
 * the next one finds nothing in its way.
 */
static void test_no_room_at_the_first_start(void)
{
    static const struct {
        int errnum;
        enum mr_err err;
    } faults[] = {{ENOSPC, MR_ERR_FULL}, {EDQUOT, MR_ERR_FULL}, {EIO, MR_ERR_IO}, {0, MR_ERR_IO}};

    for (size_t i = 0; i < MR_COUNT_OF(faults); i++) {
        bool failed = true;
        for (int nth = 1; failed; nth++) {
            struct mr_store *store = NULL;
            struct mr_error why = {.text = ""};
            folder_make();
            calls_left = nth;
            call_errno = faults[i].errnum;
            enum mr_err err = mr_store_open(
                &store, &(struct mr_store_options){.path = folder, .manual = true}, &why);
            failed = calls_left < 0;
            calls_left = -1;
            mr_assert(failed || nth > 3);
            if (failed) {
                mr_assert(store == NULL && strstr(why.text, folder) != NULL);
                mr_assert(err == faults[i].err ||
                          (faults[i].errnum == 0 && err == MR_ERR_FULL)); /* LMDB's word for it */
                store = store_open(true, 0, NULL);
            }
            mr_store_close(store);
            folder_remove();
        }
    }
}

/* LMDB writes into the file of its locks through a map: behind all of it there is disk. */
static void test_locks_have_their_place(void)
{
    char path[300];
    struct stat info;

    folder_make();
    mr_store_close(store_open(true, 0, NULL));
    (void)snprintf(path, sizeof(path), "%s/lock.mdb", folder);
    mr_assert(stat(path, &info) == 0 && info.st_blocks * 512 >= info.st_size);
    folder_remove();
}

/* Submit until it has been written; what is read meanwhile is as before. */
static void submit_till_written(struct mr_store *store)
{
    bool written = false;

    for (int tries = 0; !written; tries++) {
        mr_assert(tries < 10);
        mr_store_submit(store);
        written = mr_store_take_written(store);
        if (!written) {
            check(store);
        }
    }
}

/* Whichever call to the disk fails in a transaction, its last one too, by which LMDB gives up its
 * environment: all can be read on, and the same delta is written later.
 */
static void test_disk_that_fails_for_a_while(void)
{
    static const int faults[] = {EIO, ENOSPC, 0};

    for (size_t i = 0; i < MR_COUNT_OF(faults); i++) {
        bool failed = true;
        for (int nth = 1; failed; nth++) {
            folder_make();
            struct mr_store *store = store_open(true, 0, NULL);
            put(store, MR_STORE_SESSIONS, 7, 1);
            model[MR_STORE_SESSIONS][7] = 1;
            mr_store_seal(store);
            submit_till_written(store);
            check(store);
            put(store, MR_STORE_SESSIONS, 7, 2);
            put(store, MR_STORE_MESSAGES, 1, 3);
            mr_store_seal(store);
            calls_left = nth;
            call_errno = faults[i];
            mr_store_submit(store);
            failed = calls_left < 0;
            calls_left = -1;
            mr_assert(failed || nth > 2);
            if (failed) {
                mr_assert(!mr_store_take_written(store) && mr_store_is_failing(store));
                check(store);
                submit_till_written(store);
            } else {
                mr_assert(mr_store_take_written(store));
            }
            model[MR_STORE_SESSIONS][7] = 2;
            model[MR_STORE_MESSAGES][1] = 3;
            check(store);
            mr_store_close(store);
            store = store_open(true, 0, NULL);
            check(store);
            mr_store_close(store);
            folder_remove();
        }
    }
}

/* Read the version of the store in `folder` (0: it has none) and write another one; 0: none. */
static uint32_t version_swap(uint32_t version)
{
    static char name[] = "version";
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi format;
    MDB_val key = {.mv_size = strlen(name), .mv_data = name};
    MDB_val value;
    uint8_t bytes[4];

    mr_assert(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 1) == 0);
    mr_assert(mdb_env_open(env, folder, 0, 0600) == 0);
    mr_assert(mdb_txn_begin(env, NULL, 0, &txn) == 0);
    mr_assert(mdb_dbi_open(txn, "format", 0, &format) == 0);
    uint32_t was = mdb_get(txn, format, &key, &value) == 0 ? mr_get_u32(value.mv_data) : 0;
    if (version == 0) {
        mr_assert(mdb_del(txn, format, &key, NULL) == 0);
    } else {
        mr_put_u32(bytes, version);
        value = (MDB_val){.mv_size = sizeof(bytes), .mv_data = bytes};
        mr_assert(mdb_put(txn, format, &key, &value, 0) == 0);
    }
    mr_assert(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
    return was;
}

static void test_versions(void)
{
    struct mr_store *store;
    struct mr_error why = {.text = ""};

    folder_make();
    store = store_open(true, 0, NULL);
    put(store, MR_STORE_SESSIONS, 5, 55);
    model[MR_STORE_SESSIONS][5] = 55;
    mr_store_seal(store);
    mr_store_submit(store);
    mr_store_close(store);

    uint32_t ours = version_swap(0); /* as the first millrace left it */
    store = store_open(true, 0, NULL);
    check(store);
    mr_store_close(store);
    mr_assert(version_swap(ours + 1) == ours);

    store = NULL;
    mr_assert(mr_store_open(&store, &(struct mr_store_options){.path = folder, .manual = true},
                            &why) == MR_ERR_CONFIG);
    mr_assert(store == NULL && strstr(why.text, "by a newer millrace") != NULL);
    mr_assert(version_swap(ours) == ours + 1);
    store = store_open(true, 0, NULL);
    check(store);
    mr_store_close(store);
    folder_remove();
}

int main(void)
{
    test_disk_that_fails_for_a_while();
    test_versions();
    test_model();
    test_thread();
    test_outgrown();
    test_full();
    test_no_room_at_the_first_start();
    test_not_a_folder();
    test_locks_have_their_place();
    printf("ok\n");
    return 0;
}
