/* sim_file.c - file.h in the simulated world: faults around sim_inode.c. */
#include "base/hash.h"
#include "os/file.h"
#include "os/sim/sim_internal.h"

#include <stdio.h>

static struct sim_inode *file_inode(const struct mr_file *file)
{
    enum sim_kind kind = sim_handle_kind(file->fd);

    mr_assert(kind == SIM_FILE || kind == SIM_FILE_READ);
    return sim_handle_get(file->fd, kind);
}

static enum mr_err file_create(const char *path, struct sim_inode **out, struct mr_error *why)
{
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_CREATE);

    if (sim_name_find(path) != NULL || sim_dir_exists(path)) {
        return mr_error_set(why, MR_ERR_REJECT, "cannot create %s: file exists", path);
    }
    if (!sim_dir_of_exists(path)) {
        return mr_error_set(why, MR_ERR_IO, "cannot create %s: no such file or directory", path);
    }
    if (fault == MR_SIM_FAULT_FULL) {
        return mr_error_set(why, MR_ERR_FULL, "cannot create %s: no space left on device", path);
    }
    if (fault == MR_SIM_FAULT_IO) {
        return mr_error_set(why, MR_ERR_IO, "cannot create %s: input/output error", path);
    }
    if (fault == MR_SIM_FAULT_CRASH && sim_coin()) {
        sim_crash_here();
    }
    *out = sim_inode_new();
    sim_name_create(path, *out);
    sim_inode_drop(*out); /* its name holds it now */
    if (fault == MR_SIM_FAULT_CRASH) {
        sim_crash_here();
    }
    return MR_OK;
}

static void file_attach(struct mr_file *file, enum sim_kind kind, struct sim_inode *inode)
{
    sim_inode_hold(inode);
    sim_inode_show(inode);
    file->fd = sim_handle_open(kind, inode);
}

enum mr_err mr_file_open(struct mr_file *file, const char *path, enum mr_file_mode mode,
                         struct mr_error *why)
{
    struct sim_inode *inode = NULL;

    file->fd = -1;
    if (sim_descriptors_ran_out(path, why)) {
        return MR_ERR_IO;
    }
    if (mode == MR_FILE_CREATE) {
        enum mr_err err = file_create(path, &inode, why);
        if (err != MR_OK) {
            return err;
        }
    } else {
        inode = sim_name_find(path);
        if (inode == NULL) {
            return mr_error_set(why, sim_note_cause(MR_ERR_REJECT),
                                "cannot open %s: no such file or directory", path);
        }
    }
    file_attach(file, mode == MR_FILE_READ ? SIM_FILE_READ : SIM_FILE, inode);
    return MR_OK;
}

void mr_file_close(struct mr_file *file)
{
    enum sim_kind kind = sim_handle_kind(file->fd);

    /* After a crash the program's handles are closed already. */
    if (kind == SIM_FILE || kind == SIM_FILE_READ || kind == SIM_LOCK) {
        struct sim_inode *inode = sim_handle_get(file->fd, kind);
        sim_handle_close(file->fd);
        sim_inode_hide(inode);
        sim_inode_drop(inode);
    } else if (kind == SIM_DIR) {
        sim_handle_close(file->fd);
    }
    file->fd = -1;
}

enum mr_err mr_file_write(struct mr_file *file, const struct mr_span *parts, size_t part_count,
                          uint64_t pos)
{
    struct sim_inode *inode = file_inode(file);
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_WRITE);
    uint64_t total = 0;

    if (sim_handle_kind(file->fd) == SIM_FILE_READ) {
        return MR_ERR_IO;
    }
    for (size_t i = 0; i < part_count; i++) {
        total += parts[i].len;
    }

    /* A write that fails has done any part of its work, none and all included. */
    uint64_t allowed = fault == MR_SIM_FAULT_NONE ? total : mr_rng_below(sim_rng(), total + 1);
    bool full = false;
    sim_trace(SIM_TRACE_WRITE, pos);
    for (size_t i = 0; i < part_count && allowed > 0 && !full; i++) {
        uint64_t piece = parts[i].len < allowed ? parts[i].len : allowed;
        uint64_t done = sim_inode_write(inode, parts[i].at, piece, pos);
        full = done < piece;
        sim_trace(SIM_TRACE_WRITE, mr_crc32c(0, parts[i].at, (size_t)done));
        pos += done;
        allowed -= done;
    }
    switch (fault) {
    case MR_SIM_FAULT_CRASH:
        sim_crash_here();
    case MR_SIM_FAULT_IO:
        return MR_ERR_IO;
    case MR_SIM_FAULT_FULL:
        return MR_ERR_FULL;
    case MR_SIM_FAULT_NONE:
        break;
    }
    return full ? sim_note_cause(MR_ERR_FULL) : MR_OK;
}

enum mr_err mr_file_read(struct mr_file *file, void *into, size_t len, uint64_t pos, size_t *got)
{
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_READ);

    if (fault == MR_SIM_FAULT_CRASH) {
        sim_crash_here();
    }
    if (fault != MR_SIM_FAULT_NONE) {
        return MR_ERR_IO;
    }
    *got = sim_inode_read(file_inode(file), into, len, pos);
    return MR_OK;
}

enum mr_err mr_file_sync(struct mr_file *file)
{
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_SYNC);
    struct sim_inode *inode = file_inode(file);

    switch (fault) {
    case MR_SIM_FAULT_NONE:
        if (!sim_sync_lies()) {
            sim_inode_sync(inode);
        }
        return MR_OK;
    case MR_SIM_FAULT_CRASH:
        if (sim_coin()) {
            sim_inode_sync(inode); /* done, but no one was told */
        }
        sim_crash_here();
    case MR_SIM_FAULT_FULL: /* a sync that ran out of space has lost pages all the same */
    case MR_SIM_FAULT_IO:
        break;
    }
    sim_inode_sync_failed(inode);
    return fault == MR_SIM_FAULT_FULL ? MR_ERR_FULL : MR_ERR_IO;
}

enum mr_err mr_file_size(struct mr_file *file, uint64_t *out_bytes)
{
    *out_bytes = sim_inode_bytes(file_inode(file));
    return MR_OK;
}

enum mr_err mr_file_truncate(struct mr_file *file, uint64_t bytes)
{
    if (sim_handle_kind(file->fd) == SIM_FILE_READ) {
        return MR_ERR_IO;
    }
    sim_inode_resize(file_inode(file), bytes);
    return MR_OK;
}

enum mr_err mr_file_fill_zero(struct mr_file *file, uint64_t bytes)
{
    struct sim_inode *inode = file_inode(file);
    enum mr_sim_fault fault = sim_fault_of(MR_SIM_FILL);
    uint64_t wanted = fault == MR_SIM_FAULT_NONE ? bytes : mr_rng_below(sim_rng(), bytes + 1);

    if (sim_handle_kind(file->fd) == SIM_FILE_READ) {
        return MR_ERR_IO;
    }
    uint64_t done = sim_inode_write(inode, NULL, wanted, 0);
    switch (fault) {
    case MR_SIM_FAULT_CRASH:
        sim_crash_here();
    case MR_SIM_FAULT_IO:
        return MR_ERR_IO;
    case MR_SIM_FAULT_FULL:
        return MR_ERR_FULL;
    case MR_SIM_FAULT_NONE:
        break;
    }
    if (done < bytes) {
        return sim_note_cause(MR_ERR_FULL);
    }
    sim_inode_sync(inode);
    return MR_OK;
}

enum mr_err mr_disk_free(const char *path, uint64_t *out_bytes)
{
    if (!mr_path_exists(path)) {
        return MR_ERR_REJECT;
    }
    *out_bytes = sim_disk_free_bytes();
    return MR_OK;
}

enum mr_err mr_dir_lock(const char *path, struct mr_file *lock, struct mr_error *why)
{
    char name[SIM_PATH_MAX];
    int len = snprintf(name, sizeof(name), "%s/LOCK", path);

    lock->fd = -1;
    mr_assert(len > 0 && (size_t)len < sizeof(name));
    if (!sim_dir_exists(path)) {
        return mr_error_set(why, MR_ERR_IO, "cannot open %s: no such file or directory", name);
    }
    struct sim_inode *inode = sim_name_find(name);
    if (inode == NULL) {
        inode = sim_inode_new();
        sim_name_create(name, inode);
        sim_inode_drop(inode);
    }
    /* Seen once by its name; any more is a handle, and only locks open it. */
    if (sim_inode_shown(inode) > 1) {
        return mr_error_set(why, MR_ERR_AGAIN,
                            "folder %s is in use by process 1; stop that one first, or give this "
                            "one a folder of its own",
                            path);
    }
    file_attach(lock, SIM_LOCK, inode);
    return MR_OK;
}

/* ---- sim.h: damage by hand ---- */

enum mr_err mr_sim_file_damage(const char *path, uint64_t pos, uint8_t xor_with)
{
    struct sim_inode *inode = sim_name_find(path);

    if (inode == NULL) {
        return MR_ERR_REJECT;
    }
    sim_inode_damage(inode, pos, xor_with);
    return MR_OK;
}

enum mr_err mr_sim_file_cut(const char *path, uint64_t bytes)
{
    struct sim_inode *inode = sim_name_find(path);

    if (inode == NULL) {
        return MR_ERR_REJECT;
    }
    sim_inode_resize(inode, bytes);
    sim_inode_sync(inode);
    return MR_OK;
}
