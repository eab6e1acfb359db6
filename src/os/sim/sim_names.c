/* sim_names.c - folders and the names in them.
 *
 * DESIGN
 *
 * A name leads to one file as the program sees it and to one (maybe another,
 * maybe none) on the medium.  Creating, renaming and removing change the first
 * at once and are remembered, in order, as operations that the medium has yet
 * to see; syncing a folder applies those that touch it.
 *
 * A crash lets each remembered operation happen or not, by the seed, with one
 * rule: an operation on a name whose earlier operation did not happen does not
 * happen either.  Each is atomic, a rename above all: a journaling file system
 * promises that much and no more.
 *
 * Folders themselves are certain when mr_dir_create() returns: the contract
 * says that it syncs them.  So are their renames and removals, which a file system
 * would let wait.
 *
 * INVARIANTS
 *
 *   (1) Every name, on either side, and every remembered operation holds one
 *       reference on its file; seen names also show it.
 *   (2) Without remembered operations both sides of all names are equal.
 */
#include "os/file.h"
#include "os/sim/sim_internal.h"

#include <stdio.h>

struct name {
    uint32_t hash;            /* of path */
    char *path;               /* room for SIM_PATH_MAX */
    struct sim_inode *seen;   /* NULL: not there */
    struct sim_inode *medium; /* NULL: not there */
};

enum operation_kind { OPERATION_CREATE, OPERATION_RENAME, OPERATION_REMOVE };

struct operation {
    enum operation_kind kind;
    bool lost;               /* decided by a crash */
    char path[SIM_PATH_MAX]; /* RENAME: from */
    char to[SIM_PATH_MAX];   /* RENAME only, else empty */
    struct sim_inode *inode; /* REMOVE: NULL */
};

struct folder {
    uint32_t hash;
    char *path;
};

static struct name *names;
static size_t name_count;
static size_t names_max;

static struct operation *operations;
static size_t operation_count;
static size_t operations_max;

static struct folder *folders;
static size_t folder_count;
static size_t folders_max;

/* Room for one more in a growing array. */
static void *array_grow(void *array, size_t count, size_t *max, size_t size)
{
    if (count == *max) {
        *max = *max == 0 ? 16 : 2 * *max;
        array = sim_realloc(array, *max * size);
    }
    return array;
}

/* Without doubled and trailing slashes and a leading "./". */
static void path_normalize(char *out, const char *path)
{
    size_t len = 0;

    while (path[0] == '.' && path[1] == '/') {
        path += 2;
    }
    for (; *path != '\0'; path++) {
        if (*path == '/' && (path[1] == '/' || (path[1] == '\0' && len > 0))) {
            continue;
        }
        mr_assert(len + 1 < SIM_PATH_MAX);
        out[len] = *path;
        len += 1;
    }
    out[len] = '\0';
}

/* The folder a normalized path is in. */
static void path_parent(char *out, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL) {
        memcpy(out, ".", 2);
    } else if (slash == path) {
        memcpy(out, "/", 2);
    } else {
        memcpy(out, path, (size_t)(slash - path));
        out[slash - path] = '\0';
    }
}

static uint32_t path_hash(const char *normalized)
{
    uint32_t hash = 2166136261u;

    for (; *normalized != '\0'; normalized++) {
        hash = (hash ^ (uint8_t)*normalized) * 16777619u;
    }
    return hash;
}

static bool path_is_in(const char *path, const char *folder)
{
    char parent[SIM_PATH_MAX];

    path_parent(parent, path);
    return path[0] != '\0' && strcmp(parent, folder) == 0;
}

static const char *path_last(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* ---- names ---- */

static struct name *name_of(const char *normalized, bool make)
{
    uint32_t hash = path_hash(normalized);

    for (size_t i = 0; i < name_count; i++) {
        if (names[i].hash == hash && strcmp(names[i].path, normalized) == 0) {
            return &names[i];
        }
    }
    if (!make) {
        return NULL;
    }
    names = array_grow(names, name_count, &names_max, sizeof(names[0]));
    struct name *name = &names[name_count];
    name_count += 1;
    name->hash = hash;
    name->seen = NULL;
    name->medium = NULL;
    name->path = sim_alloc(SIM_PATH_MAX);
    memcpy(name->path, normalized, strlen(normalized) + 1);
    return name;
}

static void name_set_seen(const char *normalized, struct sim_inode *inode)
{
    struct name *name = name_of(normalized, true);
    struct sim_inode *before = name->seen;

    name->seen = inode;
    if (inode != NULL) {
        sim_inode_hold(inode);
        sim_inode_show(inode);
    }
    if (before != NULL) {
        sim_inode_hide(before);
        sim_inode_drop(before);
    }
}

static void name_set_medium(const char *normalized, struct sim_inode *inode)
{
    struct name *name = name_of(normalized, true);
    struct sim_inode *before = name->medium;

    name->medium = inode;
    if (inode != NULL) {
        sim_inode_hold(inode);
    }
    if (before != NULL) {
        sim_inode_drop(before);
    }
}

/* ---- operations ---- */

static void operation_remember(enum operation_kind kind, const char *path, const char *to,
                               struct sim_inode *inode)
{
    operations = array_grow(operations, operation_count, &operations_max, sizeof(operations[0]));
    struct operation *operation = &operations[operation_count];
    operation_count += 1;
    operation->kind = kind;
    operation->lost = false;
    operation->inode = inode;
    memcpy(operation->path, path, strlen(path) + 1);
    memcpy(operation->to, to, strlen(to) + 1);
    if (inode != NULL) {
        sim_inode_hold(inode);
    }
}

static void operation_forget(struct operation *operation)
{
    if (operation->inode != NULL) {
        sim_inode_drop(operation->inode);
    }
}

static void operation_apply(const struct operation *operation)
{
    switch (operation->kind) {
    case OPERATION_CREATE:
        name_set_medium(operation->path, operation->inode);
        break;
    case OPERATION_RENAME:
        name_set_medium(operation->to, operation->inode);
        name_set_medium(operation->path, NULL);
        break;
    case OPERATION_REMOVE:
        name_set_medium(operation->path, NULL);
        break;
    }
}

static bool operations_share_a_name(const struct operation *a, const struct operation *b)
{
    bool a_to = a->to[0] != '\0';
    bool b_to = b->to[0] != '\0';

    return strcmp(a->path, b->path) == 0 || (a_to && strcmp(a->to, b->path) == 0) ||
           (b_to && strcmp(a->path, b->to) == 0) || (a_to && b_to && strcmp(a->to, b->to) == 0);
}

void sim_names_crash(unsigned keep_of_4)
{
    for (size_t i = 0; i < operation_count; i++) {
        struct operation *operation = &operations[i];
        operation->lost = mr_rng_below(sim_rng(), 4) >= keep_of_4;
        for (size_t j = 0; j < i && !operation->lost; j++) {
            operation->lost =
                operations[j].lost && operations_share_a_name(&operations[j], operation);
        }
        if (!operation->lost) {
            operation_apply(operation);
        }
        operation_forget(operation);
    }
    operation_count = 0;

    size_t kept = 0;
    for (size_t i = 0; i < name_count; i++) {
        name_set_seen(names[i].path, names[i].medium);
        if (names[i].seen != NULL) {
            sim_inode_crash(names[i].seen, keep_of_4);
            names[kept] = names[i];
            kept += 1;
        } else {
            mr_free(names[i].path);
        }
    }
    name_count = kept;
}

void sim_names_stop(void)
{
    for (size_t i = 0; i < operation_count; i++) {
        operation_forget(&operations[i]);
    }
    for (size_t i = 0; i < name_count; i++) {
        name_set_seen(names[i].path, NULL);
        name_set_medium(names[i].path, NULL);
        mr_free(names[i].path);
    }
    for (size_t i = 0; i < folder_count; i++) {
        mr_free(folders[i].path);
    }
    mr_free(operations);
    mr_free(names);
    mr_free(folders);
    operations = NULL;
    names = NULL;
    folders = NULL;
    operation_count = operations_max = 0;
    name_count = names_max = 0;
    folder_count = folders_max = 0;
}

/* ---- for sim_file.c ---- */

struct sim_inode *sim_name_find(const char *path)
{
    char normalized[SIM_PATH_MAX];

    path_normalize(normalized, path);
    const struct name *name = name_of(normalized, false);
    return name == NULL ? NULL : name->seen;
}

/* Its path as it is kept, which does not move; NULL: there is none. */
static const char *folder_find(const char *normalized)
{
    if (strcmp(normalized, ".") == 0) {
        return ".";
    }
    if (strcmp(normalized, "/") == 0) {
        return "/";
    }
    uint32_t hash = path_hash(normalized);
    for (size_t i = 0; i < folder_count; i++) {
        if (folders[i].hash == hash && strcmp(folders[i].path, normalized) == 0) {
            return folders[i].path;
        }
    }
    return NULL;
}

static bool folder_exists(const char *normalized)
{
    return folder_find(normalized) != NULL;
}

bool sim_dir_exists(const char *path)
{
    char normalized[SIM_PATH_MAX];

    path_normalize(normalized, path);
    return folder_exists(normalized);
}

bool sim_dir_of_exists(const char *path)
{
    char normalized[SIM_PATH_MAX];
    char parent[SIM_PATH_MAX];

    path_normalize(normalized, path);
    path_parent(parent, normalized);
    return folder_exists(parent);
}

void sim_name_create(const char *path, struct sim_inode *inode)
{
    char normalized[SIM_PATH_MAX];

    path_normalize(normalized, path);
    name_set_seen(normalized, inode);
    operation_remember(OPERATION_CREATE, normalized, "", inode);
}

/* ---- file.h: folders and names ---- */

enum mr_err mr_dir_create(const char *path, struct mr_error *why)
{
    char normalized[SIM_PATH_MAX];
    char partial[SIM_PATH_MAX];

    path_normalize(normalized, path);
    size_t len = strlen(normalized);
    for (size_t end = 1; end <= len; end++) {
        if (normalized[end] != '/' && normalized[end] != '\0') {
            continue;
        }
        memcpy(partial, normalized, end);
        partial[end] = '\0';
        if (sim_name_find(partial) != NULL) {
            return mr_error_set(why, MR_ERR_IO, "cannot make folder %s: file exists", partial);
        }
        if (!folder_exists(partial)) {
            folders = array_grow(folders, folder_count, &folders_max, sizeof(folders[0]));
            folders[folder_count].hash = path_hash(partial);
            folders[folder_count].path = sim_alloc(SIM_PATH_MAX);
            memcpy(folders[folder_count].path, partial, end + 1);
            folder_count += 1;
        }
    }
    return MR_OK;
}

static enum mr_err folder_sync(const char *normalized)
{
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_DIR_SYNC);
    size_t kept = 0;

    if (!folder_exists(normalized)) {
        return sim_note_cause(MR_ERR_REJECT);
    }
    if (fault == MR_SIM_FAULT_CRASH && sim_coin()) {
        sim_crash_here(); /* before anything was done; else right after */
    }
    if (fault == MR_SIM_FAULT_IO || fault == MR_SIM_FAULT_FULL) {
        return MR_ERR_IO; /* what happened so far stays undecided */
    }
    for (size_t i = 0; i < operation_count; i++) {
        struct operation *operation = &operations[i];
        if (path_is_in(operation->path, normalized) || path_is_in(operation->to, normalized)) {
            operation_apply(operation);
            operation_forget(operation);
        } else {
            operations[kept] = *operation;
            kept += 1;
        }
    }
    operation_count = kept;
    if (fault == MR_SIM_FAULT_CRASH) {
        sim_crash_here();
    }
    return MR_OK;
}

enum mr_err mr_dir_open(const char *path, struct mr_file *dir, struct mr_error *why)
{
    char normalized[SIM_PATH_MAX];

    dir->fd = -1;
    if (sim_descriptors_ran_out(path, why)) {
        return MR_ERR_IO;
    }
    path_normalize(normalized, path);
    const char *folder = folder_find(normalized);
    if (folder == NULL) {
        return mr_error_set(why, sim_note_cause(MR_ERR_REJECT),
                            "cannot open folder %s: no such file or directory", path);
    }
    dir->fd = sim_handle_open(SIM_DIR, (void *)(uintptr_t)folder); /* only read */
    return MR_OK;
}

enum mr_err mr_dir_flush(struct mr_file *dir)
{
    return folder_sync(sim_handle_get(dir->fd, SIM_DIR));
}

enum mr_err mr_dir_sync(const char *path)
{
    char normalized[SIM_PATH_MAX];

    path_normalize(normalized, path);
    return sim_descriptors_ran_out(path, NULL) ? MR_ERR_IO : folder_sync(normalized);
}

enum mr_err mr_dir_list(const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    char normalized[SIM_PATH_MAX];
    char copy[SIM_PATH_MAX]; /* `each` may create names, which moves the arrays */

    path_normalize(normalized, path);
    if (!folder_exists(normalized)) {
        return sim_note_cause(MR_ERR_REJECT);
    }
    for (size_t i = 0; i < folder_count; i++) {
        if (path_is_in(folders[i].path, normalized)) {
            memcpy(copy, folders[i].path, SIM_PATH_MAX);
            each(arg, path_last(copy));
        }
    }
    /* Backwards or forwards: no one may rely on an order. */
    bool backwards = sim_coin();
    size_t count = name_count;
    for (size_t step = 0; step < count; step++) {
        size_t i = backwards ? count - 1 - step : step;
        if (names[i].seen != NULL && path_is_in(names[i].path, normalized)) {
            memcpy(copy, names[i].path, SIM_PATH_MAX);
            each(arg, path_last(copy));
        }
    }
    return MR_OK;
}

static enum mr_err error_of_fault(enum mr_sim_fault fault)
{
    return fault == MR_SIM_FAULT_FULL ? MR_ERR_FULL : MR_ERR_IO;
}

/* ---- folders that move and go ----
 *
 * Both are certain when the call returns, as making them is.
 */

/* `path` if it is `from` or below it, with `to` in that place. */
static void path_move(char *path, const char *from, const char *to)
{
    char moved[SIM_PATH_MAX];
    size_t len = strlen(from);

    if (strncmp(path, from, len) != 0 || (path[len] != '/' && path[len] != '\0')) {
        return;
    }
    int wanted = snprintf(moved, sizeof(moved), "%s%s", to, path + len);
    mr_assert(wanted > 0 && (size_t)wanted < sizeof(moved));
    memcpy(path, moved, (size_t)wanted + 1);
}

static void folder_move(const char *from, const char *to)
{
    for (size_t i = 0; i < folder_count; i++) {
        path_move(folders[i].path, from, to);
        folders[i].hash = path_hash(folders[i].path);
    }
    for (size_t i = 0; i < name_count; i++) {
        path_move(names[i].path, from, to);
        names[i].hash = path_hash(names[i].path);
    }
    for (size_t i = 0; i < operation_count; i++) {
        path_move(operations[i].path, from, to);
        path_move(operations[i].to, from, to);
    }
}

static bool folder_is_empty(const char *normalized)
{
    for (size_t i = 0; i < folder_count; i++) {
        if (path_is_in(folders[i].path, normalized)) {
            return false;
        }
    }
    for (size_t i = 0; i < name_count; i++) {
        if (names[i].seen != NULL && path_is_in(names[i].path, normalized)) {
            return false;
        }
    }
    return true;
}

/* With it goes what a crash might have brought back in it. */
static enum mr_err folder_drop(const char *normalized)
{
    size_t kept = 0;

    if (!folder_is_empty(normalized)) {
        return sim_note_cause(MR_ERR_IO);
    }
    for (size_t i = 0; i < operation_count; i++) {
        if (path_is_in(operations[i].path, normalized)) {
            operation_forget(&operations[i]);
        } else {
            operations[kept] = operations[i];
            kept += 1;
        }
    }
    operation_count = kept;
    kept = 0;
    for (size_t i = 0; i < name_count; i++) {
        if (path_is_in(names[i].path, normalized)) {
            name_set_medium(names[i].path, NULL);
            mr_free(names[i].path);
        } else {
            names[kept] = names[i];
            kept += 1;
        }
    }
    name_count = kept;
    kept = 0;
    for (size_t i = 0; i < folder_count; i++) {
        if (strcmp(folders[i].path, normalized) != 0) {
            folders[kept] = folders[i];
            kept += 1;
        } else {
            mr_free(folders[i].path);
        }
    }
    folder_count = kept;
    return MR_OK;
}

enum mr_err mr_path_rename(const char *from, const char *to)
{
    char path[SIM_PATH_MAX];
    char target[SIM_PATH_MAX];
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_RENAME);

    path_normalize(path, from);
    path_normalize(target, to);
    struct sim_inode *inode = sim_name_find(path);
    bool is_folder = inode == NULL && folder_exists(path);
    if ((inode == NULL && !is_folder) || !sim_dir_of_exists(target)) {
        return sim_note_cause(MR_ERR_REJECT);
    }
    if (is_folder && (folder_exists(target) || sim_name_find(target) != NULL)) {
        return sim_note_cause(MR_ERR_IO);
    }
    if (fault == MR_SIM_FAULT_FULL || fault == MR_SIM_FAULT_IO) {
        return error_of_fault(fault);
    }
    if (fault == MR_SIM_FAULT_CRASH && sim_coin()) {
        sim_crash_here();
    }
    if (is_folder) {
        folder_move(path, target);
    } else if (strcmp(path, target) != 0) {
        operation_remember(OPERATION_RENAME, path, target, inode);
        name_set_seen(target, inode);
        name_set_seen(path, NULL);
    }
    if (fault == MR_SIM_FAULT_CRASH) {
        sim_crash_here();
    }
    return MR_OK;
}

enum mr_err mr_path_remove(const char *path)
{
    char normalized[SIM_PATH_MAX];
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_REMOVE);

    path_normalize(normalized, path);
    bool is_folder = sim_name_find(normalized) == NULL && folder_exists(normalized);
    if (!is_folder && sim_name_find(normalized) == NULL) {
        return sim_note_cause(MR_ERR_REJECT);
    }
    if (fault == MR_SIM_FAULT_FULL || fault == MR_SIM_FAULT_IO) {
        return error_of_fault(fault);
    }
    if (fault == MR_SIM_FAULT_CRASH && sim_coin()) {
        sim_crash_here();
    }
    if (is_folder) {
        enum mr_err err = folder_drop(normalized);
        if (err != MR_OK) {
            return err;
        }
    } else {
        operation_remember(OPERATION_REMOVE, normalized, "", NULL);
        name_set_seen(normalized, NULL);
    }
    if (fault == MR_SIM_FAULT_CRASH) {
        sim_crash_here();
    }
    return MR_OK;
}

bool mr_path_exists(const char *path)
{
    return sim_name_find(path) != NULL || sim_dir_exists(path);
}

/* The machine of the simulation has one user. */
bool mr_path_is_open_to_others(const char *path)
{
    (void)path;
    return false;
}

void mr_path_own_as(const char *path, const char *from)
{
    (void)path;
    (void)from;
}
