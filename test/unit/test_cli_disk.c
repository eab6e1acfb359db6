/* test_cli_disk.c
 * links: cli journal codec config os base
 *
 * Goal:   `journal verify` beside a disk that refuses says so and ends with 74, whichever of its
 *         reads it is: what cannot be read is neither fine, nor a torn tail, nor lost.  Where a
 *         lane ends is then unknown, and never earlier than it does.
 * Method: journals that are sound, damaged or torn; pread is ours.  Each read of a run fails in
 *         its turn, once, and then all from it on.
 */
#include "app/cli/ends.h"
#include "cli_journal_kit.h"
#include "fd_path.h"

#include <errno.h>
#include <sys/syscall.h>

static int reads;           /* of the journal, since the run began */
static int fails_at = -1;   /* the read that fails; -1: none */
static bool fails_for_ever; /* ... and all behind it */

static bool is_ours(int fd)
{
    char name[FD_PATH_BYTES];

    fd_path(fd, name);
    return strncmp(name, folder, strlen(folder)) == 0;
}

ssize_t pread(int fd, void *into, size_t len, off_t at)
{
    int number = is_ours(fd) ? reads++ : -1;

    if (fails_at >= 0 && (number == fails_at || (fails_for_ever && number > fails_at))) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, into, len, at);
}

static int verify(int at, bool for_ever)
{
    reads = 0;
    fails_at = at;
    fails_for_ever = for_ever;
    int code = run("journal verify");
    fails_at = -1;
    return code;
}

/* The journal at hand: with a disk that works, and with none of its reads. */
static void expect_told(int sound_code)
{
    mr_assert(verify(-1, false) == sound_code);
    int count = reads;

    mr_assert(count > 3);
    for (int i = 0; i < 2 * count; i++) {
        int code = verify(i / 2, i % 2 != 0);

        if (code != MR_EXIT_IO || strstr(err_text, "cannot be read: input/output error") == NULL ||
            strstr(out_text, "fine") != NULL || strstr(out_text, "torn") != NULL) {
            (void)fprintf(stderr, "read %d of %d%s: code %d: %s%s\n", i / 2, count,
                          i % 2 != 0 ? " and behind" : "", code, out_text, err_text);
            mr_assert(false);
        }
    }
}

static void flip_in_batch(size_t segment, size_t batch)
{
    char path[512];
    uint64_t pos = 0;

    (void)segment_path(segment, path);
    (void)batch_of(path, batch, &pos);
    flip_byte(path, (long)pos + 60);
}

static void test_sound(void)
{
    folder_make();
    write_events(1, 1000);
    expect_told(MR_EXIT_OK);
    folder_remove();
}

static void test_damage_in_the_newest_segment(void)
{
    char path[512];

    folder_make();
    write_events(1, 1000);
    flip_in_batch(segment_path(SIZE_MAX, path) - 1, 1);
    expect_told(MR_EXIT_FAILED);
    folder_remove();
}

static void test_damage_in_a_closed_segment(void)
{
    folder_make();
    write_events(1, 1000);
    flip_in_batch(0, 3);
    expect_told(MR_EXIT_FAILED);
    folder_remove();
}

/* The last batch, behind which nothing proves that anybody was told. */
static void test_torn_tail(void)
{
    char path[512];
    uint64_t pos = 0;

    folder_make();
    write_events(1, 1000);
    (void)segment_path(segment_path(SIZE_MAX, path) - 1, path);
    for (size_t batch = 0; batch_of(path, batch, &pos).seq_first <= 990; batch++) {
    }
    flip_byte(path, (long)pos + 60);
    expect_told(MR_EXIT_OK);
    mr_assert(verify(-1, false) == MR_EXIT_OK && strstr(out_text, "a torn tail") != NULL);
    folder_remove();
}

static uint64_t newest(int at)
{
    reads = 0;
    fails_at = at;
    fails_for_ever = false;
    uint64_t seq = mr_lane_newest(journal_folder, 0);
    fails_at = -1;
    return seq;
}

static void test_the_end_of_a_lane(void)
{
    char path[512];

    folder_make();
    write_events(1, 1000);
    flip_in_batch(segment_path(SIZE_MAX, path) - 1, 1);
    mr_assert(newest(-1) == 1000);
    for (int i = 0, count = reads; i < count; i++) {
        mr_assert(newest(i) == MR_SEQ_UNKNOWN);
    }
    folder_remove();
}

int main(void)
{
    test_sound();
    test_damage_in_the_newest_segment();
    test_damage_in_a_closed_segment();
    test_torn_tail();
    test_the_end_of_a_lane();
    free(out_text);
    free(err_text);
    return 0;
}
