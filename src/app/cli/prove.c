/* prove.c - `millrace prove DIR`: can the disk below this folder keep a promise?
 *
 * DESIGN
 *
 * What the kernel says of file system, mount and device; then 4 KiB writes into a file that was
 * filled before (as a segment is), with and without a flush.  Nobody can see from a program
 * whether a device that answers a flush has done it, only whether it had the time to; so there is
 * the proof by the plug too: --cut writes numbered blocks and prints each number once its flush
 * has come back, to be read on the screen of another machine; --after N looks afterwards whether
 * everything up to the last number that was seen is there.
 *
 * Rejected: --cut printing to a file.  It would lie on the disk that is being asked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/cli/cli.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "journal/disk_promise.h"
#include "os/clock.h"
#include "os/file.h"

enum {
    PATH_BYTES = 4096,
    BLOCK_BYTES = 4096,
    BLOCKS = 4096,
    SHOW_NS = 100000000, /* --cut prints ten numbers a second: a screen keeps up */
};

/* What --cut wrote is the evidence that --after asks for: nothing else takes its name. */
static const char file_name[] = "millrace-prove";
static const char measured_name[] = "millrace-prove-speed";
static const char block_magic[8] = "MRPROVE1";

struct proof {
    struct mr_cli *cli;
    char path[PATH_BYTES];
    struct mr_disk disk;
    struct mr_file file;
};

static int fail_disk(struct proof *proof, const char *doing)
{
    return mr_cli_fail(proof->cli, MR_EXIT_IO, "%s: %s failed: %s", proof->path, doing,
                       mr_file_last_cause());
}

/* The folder's facts, and the name of our file in it. */
static int proof_begin(struct proof *proof, struct mr_cli *cli, const char *name)
{
    const char *dir = mr_cli_argument(cli, 0);
    struct mr_text path = mr_text_over(proof->path, sizeof(proof->path));

    *proof = (struct proof){.cli = cli, .file = {.fd = -1}};
    mr_text_fmt(&path, "%s/%s", dir, name);
    enum mr_err err = mr_disk_describe(dir, &proof->disk);
    if (err == MR_ERR_REJECT || path.truncated) {
        return mr_cli_fail(cli, MR_EXIT_NO_INPUT, "%s: %s; name a folder that exists", dir,
                           mr_file_last_cause());
    }
    if (err != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s: its mount is not in /proc/self/mountinfo", dir);
    }
    return MR_EXIT_OK;
}

static void file_drop(struct proof *proof)
{
    if (mr_path_remove(proof->path) != MR_OK) {
        mr_cli_note(proof->cli, "%s cannot be removed (%s); do it yourself", proof->path,
                    mr_file_last_cause());
    }
}

/* Make the file anew, filled with zeroes; it is not there if that fails. */
static int file_make(struct proof *proof)
{
    struct mr_error why;
    enum mr_err err = mr_path_remove(proof->path);

    if (err != MR_OK && err != MR_ERR_REJECT) {
        return fail_disk(proof, "making it");
    }
    err = mr_file_open(&proof->file, proof->path, MR_FILE_CREATE, &why);
    if (err != MR_OK) {
        return mr_cli_fail(proof->cli, MR_EXIT_IO, "%s", why.text);
    }
    err = mr_file_fill_zero(&proof->file, (uint64_t)BLOCKS * BLOCK_BYTES);
    if (err == MR_OK) {
        err = mr_dir_sync(mr_cli_argument(proof->cli, 0));
    }
    if (err != MR_OK) {
        int code = fail_disk(proof, "filling 16 MiB with zeroes");
        file_drop(proof); /* the room may be what a gateway waits for */
        return code;
    }
    return MR_EXIT_OK;
}

/* ---- figures ---- */

struct figures {
    int64_t p50_ns;
    int64_t p99_ns;
    int64_t max_ns;
};

static int by_size(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;

    return (a > b) - (a < b);
}

static struct figures figures_of(int64_t *ns, size_t count)
{
    qsort(ns, count, sizeof(*ns), by_size);
    return (struct figures){
        .p50_ns = ns[count / 2], .p99_ns = ns[count * 99 / 100], .max_ns = ns[count - 1]};
}

static enum mr_err measure(struct proof *proof, bool flush, size_t count, struct figures *out)
{
    int64_t *ns = mr_alloc(count * sizeof(*ns));
    enum mr_err err =
        mr_disk_time_writes(proof->path, (uint64_t)BLOCKS * BLOCK_BYTES, flush, ns, count);

    if (err == MR_OK) {
        *out = figures_of(ns, count);
    }
    mr_free(ns);
    return err;
}

static const char *cache_words(const struct mr_disk *disk)
{
    return disk->cache == MR_DISK_CACHE_NONE ? "says that it has no volatile cache"
                                             : "has a volatile cache, which a flush must empty";
}

static void say_figures(struct mr_cli *cli, const char *what, const struct figures *is)
{
    (void)mr_cli_out(cli, "%-22s  p50 %8.3f ms  p99 %8.3f ms  max %8.3f ms  %9.0f/s\n", what,
                     (double)is->p50_ns / 1e6, (double)is->p99_ns / 1e6, (double)is->max_ns / 1e6,
                     1e9 / (double)(is->p50_ns == 0 ? 1 : is->p50_ns));
}

static void json_figures(struct mr_cli *cli, const char *name, const struct figures *is)
{
    (void)mr_cli_out(cli, ",\"%s\":{\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}", name,
                     (double)is->p50_ns / 1e3, (double)is->p99_ns / 1e3, (double)is->max_ns / 1e3);
}

static const char *promise_word(enum mr_disk_promise promise)
{
    static const char *const words[] = {
        [MR_DISK_HOLDS] = "holds", [MR_DISK_DOUBTFUL] = "doubtful", [MR_DISK_BROKEN] = "broken"};

    return words[promise];
}

static void json_text(struct mr_cli *cli, const char *name, const char *text)
{
    (void)mr_cli_out(cli, ",\"%s\":", name);
    (void)mr_cli_out_json(cli, text, strlen(text));
}

/* All that was found; what cannot be seen from here is said as well. */
static void say_all(struct proof *proof, const struct figures *write, const struct figures *flush,
                    enum mr_disk_promise promise, const char *why)
{
    const struct mr_disk *disk = &proof->disk;
    struct mr_cli *cli = proof->cli;

    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "{\"promise\":\"%s\"", promise_word(promise));
        json_text(cli, "why", why);
        json_text(cli, "filesystem", disk->filesystem);
        json_text(cli, "source", disk->source);
        json_text(cli, "mount_point", disk->mount_point);
        json_text(cli, "options", disk->options);
        json_figures(cli, "write", write);
        json_figures(cli, "flush", flush);
        (void)mr_cli_out(cli, "}\n");
        return;
    }
    (void)mr_cli_out(cli, "%s on %s, mounted at %s (%s)\n", disk->filesystem, disk->source,
                     disk->mount_point, disk->options);
    if (disk->cache != MR_DISK_CACHE_UNKNOWN) {
        (void)mr_cli_out(cli, "the device %s%s\n",
                         disk->rotating     ? "rotates; it "
                         : disk->is_virtual ? "is virtual; it "
                                            : "",
                         cache_words(disk));
    }
    say_figures(cli, "4 KiB and its flush", flush);
    if (write->p50_ns > 0) {
        say_figures(cli, "4 KiB without a flush", write);
    }
    if (promise == MR_DISK_HOLDS) {
        (void)mr_cli_out(cli,
                         "nothing speaks against it. What a controller or a host does behind the "
                         "device cannot be seen from\nhere; the proof is to pull the plug: "
                         "millrace prove --cut %s\n",
                         mr_cli_argument(cli, 0));
    } else {
        (void)mr_cli_out(cli, "the promise %s: %s\n",
                         promise == MR_DISK_BROKEN ? "cannot hold here" : "is in doubt here", why);
    }
}

static int run_measure(struct proof *proof)
{
    size_t count = (size_t)mr_cli_number(proof->cli, "count");
    char buffer[512] = "";
    struct mr_text why = mr_text_over(buffer, sizeof(buffer));
    struct figures write = {0};
    struct figures flush = {0};
    int code = file_make(proof);

    if (code != MR_EXIT_OK) {
        return code;
    }
    enum mr_err err = measure(proof, false, count, &write);
    if (err == MR_OK) {
        err = measure(proof, true, count, &flush);
    }
    enum mr_disk_promise promise = mr_disk_promise(&proof->disk, &why);
    if (err == MR_OK && promise == MR_DISK_HOLDS) {
        promise = mr_disk_promise_measured(&proof->disk, write.p50_ns, flush.p50_ns, &why);
    }
    if (err != MR_OK && err != MR_ERR_REJECT) {
        int failed = fail_disk(proof, "writing");
        file_drop(proof);
        return failed;
    }
    file_drop(proof);
    if (err == MR_ERR_REJECT && promise == MR_DISK_HOLDS) {
        return mr_cli_fail(proof->cli, MR_EXIT_UNAVAILABLE,
                           "%s: %s cannot write past the page cache, so its flushes cannot be "
                           "told from its memory; use --cut",
                           proof->path, proof->disk.filesystem);
    }
    say_all(proof, &write, &flush, promise, buffer);
    return promise == MR_DISK_HOLDS ? MR_EXIT_OK : MR_EXIT_FAILED;
}

/* ---- pulling the plug ---- */

/* magic | number | zeroes | crc32c of all before it */
static void block_fill(uint8_t block[BLOCK_BYTES], uint64_t number)
{
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, block_magic, sizeof(block_magic));
    mr_put_u64(block + sizeof(block_magic), number);
    mr_put_u32(block + BLOCK_BYTES - 4, mr_crc32c(0, block, BLOCK_BYTES - 4));
}

/* The block's number; 0: it is not one of ours, or not whole. */
static uint64_t block_number(const uint8_t block[BLOCK_BYTES])
{
    bool whole = memcmp(block, block_magic, sizeof(block_magic)) == 0 &&
                 mr_get_u32(block + BLOCK_BYTES - 4) == mr_crc32c(0, block, BLOCK_BYTES - 4);

    return whole ? mr_get_u64(block + sizeof(block_magic)) : 0;
}

/* The newest number in the file, and how many of the BLOCKS - 1 numbers before it are missing;
 * the block after the newest may be torn, it was being written.
 */
static enum mr_err blocks_read(struct proof *proof, uint64_t *newest, uint64_t *missing)
{
    uint8_t block[BLOCK_BYTES];
    uint64_t *numbers = mr_alloc(BLOCKS * sizeof(*numbers));
    enum mr_err err = MR_OK;
    size_t got = 0;

    *newest = 0;
    *missing = 0;
    for (size_t i = 0; i < BLOCKS && err == MR_OK; i++) {
        err = mr_file_read(&proof->file, block, sizeof(block), i * BLOCK_BYTES, &got);
        numbers[i] = got == sizeof(block) ? block_number(block) : 0;
        *newest = numbers[i] > *newest ? numbers[i] : *newest;
    }
    uint64_t oldest = *newest > BLOCKS - 2 ? *newest - (BLOCKS - 2) : 1;
    for (uint64_t number = oldest; number <= *newest; number++) {
        *missing += numbers[number % BLOCKS] == number ? 0 : 1;
    }
    mr_free(numbers);
    return err;
}

/* Of an earlier --cut: to write over it would make an honest disk a liar. */
static bool has_evidence(struct proof *proof)
{
    uint64_t newest = 0;
    uint64_t missing = 0;

    if (mr_file_open(&proof->file, proof->path, MR_FILE_READ, NULL) != MR_OK) {
        return false;
    }
    bool has = blocks_read(proof, &newest, &missing) == MR_OK && newest != 0;
    mr_file_close(&proof->file);
    return has;
}

static int run_cut(struct proof *proof)
{
    uint8_t block[BLOCK_BYTES];
    struct mr_span part = mr_span_make(block, sizeof(block));
    int64_t shown_ns = 0;
    bool heard = true;

    if (has_evidence(proof)) {
        return mr_cli_fail(proof->cli, MR_EXIT_DATA,
                           "%s is what an earlier --cut wrote; look at it with --after NUMBER, or "
                           "remove it",
                           proof->path);
    }
    int code = file_make(proof);

    if (code != MR_EXIT_OK) {
        return code;
    }
    mr_cli_note(proof->cli,
                "pull the plug while this runs; remember the last number, then: "
                "millrace prove --after NUMBER %s",
                mr_cli_argument(proof->cli, 0));
    for (uint64_t number = 1; heard; number++) {
        block_fill(block, number);
        if (mr_file_write(&proof->file, &part, 1, number % BLOCKS * BLOCK_BYTES) != MR_OK ||
            mr_file_sync(&proof->file) != MR_OK) {
            return fail_disk(proof, "writing");
        }
        int64_t now_ns = mr_clock_mono_ns();
        if (now_ns - shown_ns >= SHOW_NS) {
            shown_ns = now_ns;
            heard = mr_cli_out(proof->cli, "%" PRIu64 "\n", number) && mr_cli_flush(proof->cli);
        }
    }
    return MR_EXIT_OK;
}

static int run_after(struct proof *proof)
{
    uint64_t seen = mr_cli_number(proof->cli, "after");
    uint64_t newest = 0;
    uint64_t missing = 0;
    struct mr_error why;

    if (mr_file_open(&proof->file, proof->path, MR_FILE_READ, &why) != MR_OK) {
        return mr_cli_fail(proof->cli, MR_EXIT_NO_INPUT, "%s; was --cut run in this folder?",
                           why.text);
    }
    if (blocks_read(proof, &newest, &missing) != MR_OK) {
        return fail_disk(proof, "reading");
    }
    if (newest < seen || missing > 0) {
        return mr_cli_fail(proof->cli, MR_EXIT_FAILED,
                           "this disk lies: it had confirmed %" PRIu64 ", the newest that is there "
                           "is %" PRIu64 ", and %" PRIu64 " before that are missing. Switch its "
                           "cache off, or use another disk",
                           seen, newest, missing);
    }
    (void)mr_cli_out(proof->cli,
                     "all there: %" PRIu64 " had been confirmed, the newest is %" PRIu64 "\n", seen,
                     newest);
    file_drop(proof);
    return MR_EXIT_OK;
}

static int prove_run(struct mr_cli *cli)
{
    struct proof proof;
    bool cut = mr_cli_flag(cli, "cut");
    bool after = mr_cli_given(cli, "after");

    if (cut && after) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "--cut is for before the power goes, --after for when it is back; give "
                           "one of them");
    }
    int code = proof_begin(&proof, cli, cut || after ? file_name : measured_name);

    if (code == MR_EXIT_OK) {
        code = cut ? run_cut(&proof) : after ? run_after(&proof) : run_measure(&proof);
    }
    mr_file_close(&proof.file);
    return code;
}

static const struct mr_cli_option prove_options[] = {
    {.name = "count",
     .letter = 'n',
     .type = MR_OPT_U64,
     .value = "COUNT",
     .default_text = "1000",
     .min = 10,
     .max = 1000000,
     .help = "How many writes to time, with and without a flush."},
    {.name = "cut",
     .type = MR_OPT_BOOL,
     .help = "Write and flush numbered blocks until the power goes; prints what was confirmed."},
    {.name = "after",
     .type = MR_OPT_U64,
     .value = "NUMBER",
     .min = 1,
     .max = UINT64_MAX,
     .help = "After the power came back: is everything up to NUMBER there?"},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object."},
    {.name = NULL},
};

const struct mr_command mr_command_prove = {
    .name = "prove",
    .group = "Tools",
    .summary = "can the disk below a folder keep what it is told to keep",
    .arguments = "DIR",
    .arguments_min = 1,
    .arguments_max = 1,
    .help = "Says what the kernel knows of the file system and the device, and how long a flush\n"
            "takes; needs 16 MiB for a moment. Exit code 1: the promise is in doubt, or cannot\n"
            "hold. To be certain, run it with --cut over the network, pull the plug, and look\n"
            "with --after whether the last number you saw is there.\n",
    .options = prove_options,
    .run = prove_run,
};
