/* test_session_calls.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a start whose calls to the session store, to its folders or to the journal's files fail,
 *         one after the other,
 *         with the same number of shards and with another one, loses nothing: it is refused and
 *         the next one finds everything, or it finds everything itself.  So it is with memory
 *         that does not suffice, and with a row of any table that is not one.
 * Method: clients do random things to a real broker (session_walk.h); what the disk has then is
 *         started again and again, each time with another call that fails, and what comes of it
 *         is compared line by line.
 *
 * The seed is printed; MR_SEED repeats a run.
 */
#include "session_walk.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/syscall.h>

enum { LANES = 2, STEPS = 120, NEVER = -1, FOR_EVER = 1000000, PUBLISHED_MIN = 30 };

/* ---- calls that fail: the program finds these before those of the libraries ---- */

enum kind { KIND_TXN, KIND_WALK, KIND_READ, KIND_WRITE, KIND_FOLDER, KIND_JOURNAL, KINDS };

static _Atomic int calls_left[KINDS]; /* until one fails; NEVER */
static _Atomic int calls_more;        /* ... and so many behind it */
static _Atomic int calls_failed;

static bool call_fails(enum kind kind)
{
    if (atomic_load(&calls_left[kind]) == NEVER) {
        return false;
    }
    if (atomic_load(&calls_left[kind]) != 0) {
        atomic_fetch_sub(&calls_left[kind], 1);
        return false;
    }
    if (atomic_fetch_sub(&calls_more, 1) == 0) {
        atomic_store(&calls_left[kind], NEVER);
    }
    atomic_fetch_add(&calls_failed, 1);
    return true;
}

/* The function of this name in the library; a pointer to one is none to an object (C11 6.3.2.3). */
#define REAL(name)                             \
    static __typeof__(&(name)) real;           \
    if (real == NULL) {                        \
        void *found = dlsym(RTLD_NEXT, #name); \
        mr_assert(found != NULL);              \
        memcpy(&real, &found, sizeof(real));   \
    }

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    REAL(mdb_env_open)
    return call_fails(KIND_TXN) ? ENOMEM : real(env, path, flags, mode);
}

int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    REAL(mdb_txn_begin)
    return call_fails(KIND_TXN) ? ENOMEM : real(env, parent, flags, txn);
}

int mdb_txn_commit(MDB_txn *txn)
{
    REAL(mdb_txn_commit)
    if (call_fails(KIND_TXN)) {
        mdb_txn_abort(txn);
        return EIO;
    }
    return real(txn);
}

int mdb_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi)
{
    REAL(mdb_dbi_open)
    return call_fails(KIND_TXN) ? MDB_DBS_FULL : real(txn, name, flags, dbi);
}

int mdb_txn_renew(MDB_txn *txn)
{
    REAL(mdb_txn_renew)
    return call_fails(KIND_READ) ? MDB_READERS_FULL : real(txn);
}

int mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor)
{
    REAL(mdb_cursor_open)
    return call_fails(KIND_WALK) ? ENOMEM : real(txn, dbi, cursor);
}

int mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
    REAL(mdb_cursor_get)
    return call_fails(KIND_READ) ? MDB_CORRUPTED : real(cursor, key, value, op);
}

int mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    REAL(mdb_get)
    return call_fails(KIND_READ) ? MDB_PAGE_NOTFOUND : real(txn, dbi, key, value);
}

int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags)
{
    REAL(mdb_put)
    return call_fails(KIND_WRITE) ? MDB_MAP_FULL : real(txn, dbi, key, value, flags);
}

static int folder_call(bool fails, long result)
{
    if (fails) {
        errno = EIO;
    }
    return fails ? -1 : (int)result;
}

/* Nothing is to outlive a power cut here: it is quicker so. */
int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int fsync(int fd)
{
    (void)fd;
    return folder_call(call_fails(KIND_FOLDER), 0);
}

int rename(const char *from, const char *to)
{
    bool fails = call_fails(KIND_FOLDER);
    return folder_call(fails, fails ? -1 : syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int remove(const char *path)
{
    bool fails = call_fails(KIND_FOLDER);
    return folder_call(fails, fails ? -1
                              : unlink(path) != 0
                                  ? syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
                                  : 0);
}

static void calls_fail(enum kind kind, int nth)
{
    for (int i = 0; i < KINDS; i++) {
        atomic_store(&calls_left[i], i == (int)kind ? nth : NEVER);
    }
}

/* Of the journal's files, which are open by then; LMDB maps its own. */
ssize_t pread(int fd, void *into, size_t len, off_t at)
{
    if (call_fails(KIND_JOURNAL)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, into, len, at);
}

/* ---- starts ---- */

static char image[] = "/tmp/mr-image-XXXXXX"; /* what the disk has */
static const struct lines *expected;
static uint64_t refused;
static uint64_t let_in;

/* The broker that was made on `image` has what it had; then it ends. */
static void same_and_end(void)
{
    struct lines *now = dump(kit.broker);

    compare(expected, now);
    lines_free(now);
    kit_end(&kit, 0);
}

/* A start of what kit.folder has, in which the `nth` call fails and `more` behind it.  False: it
 * was refused.
 */
static bool start(enum kind kind, int nth, int more, struct mr_error *why)
{
    kit_journal(&kit);
    atomic_store(&calls_more, more);
    calls_fail(kind, nth);
    enum mr_err err = kit_broker(&kit, why);
    calls_fail(KINDS, NEVER);
    if (err != MR_OK) {
        refused += 1;
        mr_assert(why->text[0] != '\0');
        mr_assert(mr_journal_close(kit.journal) == MR_OK);
    }
    return err == MR_OK;
}

static void start_whole(void)
{
    struct mr_error why = {.text = ""};

    if (!start(KINDS, NEVER, 0, &why)) {
        kit_fail("a start in which nothing fails", &why);
    }
    same_and_end();
}

/* The `nth` call fails, and `more` behind it, in a start with so many shards; false: there were not
 * as many.
 */
static bool one_fails(enum kind kind, int nth, int more, uint32_t lanes)
{
    struct mr_error why = {.text = ""};
    int before = atomic_load(&calls_failed);

    folder_copy(image, kit.folder);
    kit.options.lanes = lanes;
    if (start(kind, nth, more, &why)) {
        let_in += 1;
        same_and_end();
    }
    start_whole();
    return atomic_load(&calls_failed) != before;
}

/* The first call, and some of the others: in the long run all of them; `more` behind each, too. */
static void each_fails(enum kind kind, int more, uint32_t lanes)
{
    int nth = 0;

    while (one_fails(kind, nth, more, lanes)) {
        nth += 1 + (int)mr_rng_below(&rng, (uint64_t)nth * 2 + 2);
    }
    printf("kind %d, %u shards: up to call %d\n", (int)kind, lanes, nth);
}

/* No store says how many shards there were: a start that went on without them would replace them by
 * what the journal still has.
 */
static void unreadable_is_not_absent(uint32_t lanes)
{
    uint64_t before = refused;

    mr_assert(one_fails(KIND_WALK, 0, LANES - 1, lanes) && refused == before + 1);
}

/* ---- rows that are none ---- */

static const char *const tables[] = {"vector",     "sessions", "subscriptions",
                                     "deliveries", "messages", "retained"};

/* Put a row with this key into a table of the first shard's store, or take it out. */
static void row_odd(const char *table, size_t key_len, size_t len, bool put)
{
    static uint8_t bytes[64];
    struct path_text {
        char text[400];
    } path;
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi = 0;
    MDB_val key = {.mv_size = key_len, .mv_data = bytes};
    MDB_val value = {.mv_size = len, .mv_data = bytes};

    (void)snprintf(path.text, sizeof(path.text), "%s/sessions/lane-00", kit.folder);
    memset(bytes, 0xff, sizeof(bytes)); /* behind all others */
    mr_assert(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 16) == 0);
    mr_assert(mdb_env_open(env, path.text, 0, 0600) == 0);
    mr_assert(mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, table, 0, &dbi) == 0);
    mr_assert((put ? mdb_put(txn, dbi, &key, &value, 0) : mdb_del(txn, dbi, &key, NULL)) == 0);
    mr_assert(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
}

static void odd_row_is_told(const char *table, size_t key_len, size_t len, uint32_t lanes)
{
    struct mr_error why = {.text = ""};

    folder_copy(image, kit.folder);
    kit.options.lanes = lanes;
    row_odd(table, key_len, len, true);
    mr_assert(!start(KINDS, NEVER, 0, &why));
    mr_assert(strstr(why.text, "cannot be read") != NULL);
    row_odd(table, key_len, len, false);
    start_whole();
}

static void odd_rows_are_told(uint32_t lanes)
{
    for (size_t i = 0; i < MR_COUNT_OF(tables); i++) {
        odd_row_is_told(tables[i], 3, 40, lanes);
    }
    odd_row_is_told("vector", 4, 5, lanes);
    odd_row_is_told("sessions", 12, 20, lanes);
    odd_row_is_told("subscriptions", 16, 4, lanes);
    odd_row_is_told("deliveries", 20, 7, lanes);
    odd_row_is_told("messages", 12, 8, lanes);
}

static bool done;
static uint64_t published_before; /* this walk */

/* Once, as soon as there is enough. */
static void crash_and_all(void)
{
    if (done) {
        return;
    }
    struct lines *before = crash();
    if (published - published_before < PUBLISHED_MIN) {
        begin_and_compare(before);
        return;
    }
    done = true;
    mr_assert(mkdtemp(image) != NULL);
    folder_copy(kit.folder, image);
    expected = before;
    for (uint32_t lanes = LANES - 1; lanes <= LANES; lanes++) {
        unreadable_is_not_absent(lanes);
        odd_rows_are_told(lanes);
        for (int kind = 0; kind < KINDS; kind++) {
            each_fails((enum kind)kind, 0, lanes);
        }
        each_fails(KIND_TXN, FOR_EVER, lanes);
        each_fails(KIND_WRITE, FOR_EVER, lanes);
    }
    folder_copy(image, kit.folder);
    folder_remove_all(image);
    begin_and_compare(before);
}

int main(void)
{
    calls_fail(KINDS, NEVER);
    for (uint64_t seed = walk_seed(); !done; seed++) { /* in some walks little is published */
        published_before = published;
        walk(seed,
             &(struct kit_options){
                 .manual = true, .lanes = LANES, .segment_bytes = 1 << 20, .checkpoint_ms = 3},
             STEPS, crash_and_all);
    }
    printf("%llu starts were refused, %llu were not, %llu lines of state were the same\n",
           (unsigned long long)refused, (unsigned long long)let_in, (unsigned long long)compared);
    mr_assert(refused > 20);
    return 0;
}
