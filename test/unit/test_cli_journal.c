/* test_cli_journal.c
 *
 * links: cli journal codec config os base
 *
 * Goal:   journal cat, ls, verify, cursors and tap tell the truth about the files: every
 *         event once and in order, across segments; damage with file, position and
 *         seqs, and exit code 1; nothing is damage that was never durable.
 * Method: journals written by the journal itself, in a temporary folder, then
 *         bytes are flipped and files cut; the commands run as main() runs them.
 *         For tap a second process writes while the first one watches.
 */
#include "app/cli/ends.h"
#include "app/cli/walk.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "cli_journal_kit.h"
#include "journal/cursor.h"
#include "os/process.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_cat_and_verify_across_segments(void)
{
    char path[512];

    folder_make();
    write_events(1, 3000);
    mr_assert(segment_path(0, path) >= 4);

    mr_assert(run("journal cat") == MR_EXIT_OK);
    expect(err_text, "");
    expect_seqs(out_text, 1, 3000);
    mr_assert(begins(out_text,
                     "0\t1\t2023-11-14T22:13:20.000001Z\tdev-1\tplant/1/temp\tq1\t{\"seq\":1,"));

    /* names of a segment are known when reading begins in its middle */
    mr_assert(run("journal cat --from 1234 --to 1236 --json") == MR_EXIT_OK);
    expect_seqs(out_text, 1234, 1236);
    mr_assert(strstr(out_text, "{\"lane\":0,\"seq\":1236,\"time\":\"2023-11-14T22:13:20.001236Z\","
                               "\"received\":1700000000001,\"client\":\"dev-4\","
                               "\"topic\":\"plant/4/temp\",\"qos\":1,\"retain\":false,"
                               "\"payload\":{\"seq\":1236,") != NULL);
    mr_assert(run("journal cat --topic plant/3/+ --to 9 --raw") == MR_EXIT_OK);
    expect_seqs(out_text, 3, 3);
    mr_assert(out_text[0] == '{');

    mr_assert(run("journal verify") == MR_EXIT_OK);
    expect(out_text, "lane 0: 3000 records, seqs 1 to 3000: fine\n");
    mr_assert(run("journal verify --json") == MR_EXIT_OK);
    expect(out_text, "{\"lane\":0,\"records\":3000,\"seq_first\":1,\"seq_last\":3000,\"damaged\":0,"
                     "\"seqs_lost\":0,\"gaps\":0,\"torn_tail\":false}\n");
    folder_remove();
}

static void test_ls(void)
{
    char path[512];
    size_t lines = 0;

    folder_make();
    write_events(1, 3000);
    size_t count = segment_path(0, path);
    mr_assert(run("journal ls --json") == MR_EXIT_OK);
    for (const char *at = out_text; (at = strstr(at, "\"state\":")) != NULL; at++) {
        lines += 1;
    }
    mr_assert(lines == count);
    mr_assert(begins(out_text, "{\"lane\":0,\"file\":\"00000000000000000001.seg\",\"epoch\":1,"
                               "\"seq_first\":1,\"seq_last\":"));
    mr_assert(strstr(out_text, "\"seq_last\":3000,") != NULL);
    mr_assert(strstr(out_text, "\"state\":\"newest\"") != NULL);
    mr_assert(run("journal ls") == MR_EXIT_OK);
    mr_assert(begins(out_text, "lane 0: "));
    folder_remove();
}

static void test_no_journal(void)
{
    char wanted[512];

    folder_make();
    mr_assert(run("journal ls") == MR_EXIT_NO_INPUT);
    (void)snprintf(wanted, sizeof(wanted),
                   "millrace journal ls: there is no journal in %s; name the gateway's data folder "
                   "with --data\n",
                   folder);
    expect(err_text, wanted);

    struct mr_journal *journal = journal_open(true); /* empty */
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    expect(out_text, "lane 0: empty: fine\n");
    mr_assert(run("journal cat --lane 3") == MR_EXIT_NO_INPUT);
    folder_remove();
}

/* A byte in a batch of a segment that is not the last: its records are lost, all
 * others are shown.
 */
static void test_damage_in_a_closed_segment(void)
{
    char path[512];
    char wanted[1200];
    uint64_t pos = 0;

    folder_make();
    write_events(1, 3000);
    (void)segment_path(1, path);
    struct mr_batch_header hit = batch_of(path, 3, &pos);
    uint64_t last = hit.seq_first + hit.record_count - 1;
    flip_byte(path, (long)pos + 60);

    mr_assert(run("journal verify") == MR_EXIT_FAILED);
    (void)snprintf(wanted, sizeof(wanted),
                   "millrace journal verify: lane 0: %s, position %llu: batches are damaged; seqs "
                   "%llu to %llu are lost\n",
                   path, (unsigned long long)pos, (unsigned long long)hit.seq_first,
                   (unsigned long long)last);
    expect(err_text, wanted);
    (void)snprintf(wanted, sizeof(wanted),
                   "lane 0: %llu records, seqs 1 to 3000: DAMAGED in 1 place, %u seqs lost\n",
                   (unsigned long long)(3000 - hit.record_count), hit.record_count);
    expect(out_text, wanted);

    mr_assert(run("journal cat") == MR_EXIT_FAILED);
    char *second = strchr(strstr(out_text, "\t3000\t"), '\n');
    mr_assert(second != NULL && second[1] == '\0');
    mr_assert(strstr(out_text, "\t?\t") == NULL); /* its names stand in an earlier batch */
    folder_remove();
}

/* The batch that defines the names: events behind it are shown, as nobody's. */
static void test_damage_to_names(void)
{
    char path[512];
    char reference[64];
    uint64_t pos = 0;

    folder_make();
    write_events(1, 3000);
    (void)segment_path(1, path);
    struct mr_batch_header hit = batch_of(path, 0, &pos);
    flip_byte(path, (long)pos + 60);
    mr_assert(run("journal cat") == MR_EXIT_FAILED);
    (void)snprintf(reference, sizeof(reference), "\n0\t%llu\t",
                   (unsigned long long)(hit.seq_first + hit.record_count));
    const char *after = strstr(out_text, reference);
    mr_assert(after != NULL && strstr(after, "\t?\t?\tq1\t{\"seq\":") != NULL);
    folder_remove();
}

/* The last batch of a closed segment: nothing behind it in the file says so, the
 * next segment's first seq does.
 */
static void test_damage_at_the_end_of_a_closed_segment(void)
{
    char path[512];
    char next[512];
    uint64_t pos = 0;
    uint64_t next_pos = 0;
    size_t index = 0;

    folder_make();
    write_events(1, 3000);
    (void)segment_path(0, path);
    (void)segment_path(1, next);
    uint64_t next_first = batch_of(next, 0, &next_pos).seq_first;
    struct mr_batch_header hit = batch_of(path, index, &pos);
    while (hit.seq_first + hit.record_count < next_first) {
        index += 1;
        hit = batch_of(path, index, &pos);
    }
    flip_byte(path, (long)pos + 4);

    char wanted[1200];
    mr_assert(run("journal verify") == MR_EXIT_FAILED);
    (void)snprintf(
        wanted, sizeof(wanted),
        "millrace journal verify: lane 0: %s, position %llu: the segment ends too early; "
        "seqs %llu to %llu are lost\n",
        path, (unsigned long long)pos, (unsigned long long)hit.seq_first,
        (unsigned long long)next_first - 1);
    expect(err_text, wanted);
    folder_remove();
}

static void test_damaged_header(void)
{
    char path[512];

    folder_make();
    write_events(1, 3000);
    (void)segment_path(1, path);
    flip_byte(path, 20);
    mr_assert(run("journal verify") == MR_EXIT_FAILED);
    mr_assert(strstr(err_text, ", position 0: the segment's header is damaged; seqs ") != NULL);
    mr_assert(strstr(out_text, ": DAMAGED in 1 place, ") != NULL);
    mr_assert(run("journal ls --json") == MR_EXIT_OK);
    mr_assert(strstr(out_text, "\"state\":\"damaged\"") != NULL);
    folder_remove();
}

/* As if a newer millrace had written it, in another format. */
static void make_newer(const char *path)
{
    uint8_t bytes[64]; /* its header */
    FILE *file = fopen(path, "r+b");

    mr_assert(file != NULL && fread(bytes, sizeof(bytes), 1, file) == 1);
    mr_put_u16(bytes + 8, MR_FORMAT_VERSION + 1);
    mr_put_u32(bytes + sizeof(bytes) - 4, mr_crc32c(0, bytes, sizeof(bytes) - 4));
    mr_assert(fseek(file, 0, SEEK_SET) == 0 && fwrite(bytes, sizeof(bytes), 1, file) == 1);
    mr_assert(fclose(file) == 0);
}

/* It is neither damage nor a fault of the disk. */
static void test_a_newer_format(void)
{
    static const char *const lines[] = {"journal verify", "journal cat", "tap # --from-start",
                                        "tap #"};
    char path[512];

    folder_make();
    write_events(1, 1000);
    (void)segment_path(segment_path(SIZE_MAX, path) - 1, path);
    make_newer(path);
    for (size_t i = 0; i < MR_COUNT_OF(lines); i++) {
        mr_assert(run(lines[i]) == MR_EXIT_DATA);
        mr_assert(strstr(err_text, path) != NULL);
        mr_assert(strstr(err_text, ": written by a newer millrace; use that version") != NULL);
    }
    mr_assert(run("journal ls --json") == MR_EXIT_OK);
    mr_assert(strstr(out_text, "\"state\":\"newer\"") != NULL);
    mr_assert(strstr(out_text, "\"state\":\"damaged\"") == NULL);
    folder_remove();
}

static void test_missing_segment(void)
{
    char path[512];

    folder_make();
    write_events(1, 3000);
    (void)segment_path(1, path);
    mr_assert(unlink(path) == 0);
    mr_assert(run("journal verify") == MR_EXIT_FAILED);
    mr_assert(strstr(err_text, "the segment ends too early; seqs ") != NULL);
    folder_remove();
}

/* `bridge seek --to TIME` must not take an earlier place because it cannot read a later one. */
static void test_a_time_in_what_cannot_be_read(void)
{
    struct mr_error why = {.text = ""};
    char path[512];
    uint64_t seq = 0;

    folder_make();
    write_events(1, 3000);
    mr_assert(mr_lane_at(journal_folder, 0, 1700000000000000 + 2500, &seq, &why) == MR_OK);
    mr_assert(seq == 2500);
    mr_assert(mr_lane_at(journal_folder, 0, 1700000000000000 + 4000, &seq, &why) == MR_OK);
    mr_assert(seq == 3001);
    size_t count = segment_path(0, path);
    mr_assert(count > 2);
    (void)segment_path(count - 2, path);
    mr_assert(unlink(path) == 0 && mkdir(path, 0700) == 0); /* opens, and does not read */
    mr_assert(mr_lane_at(journal_folder, 0, 1700000000000000 + 4000, &seq, &why) == MR_ERR_IO);
    mr_assert(strstr(why.text, path) != NULL);
    mr_assert(rmdir(path) == 0);
    folder_remove();
}

/* In the newest segment: a damaged batch with durable ones behind it is damage; a
 * damaged last one is a torn tail, which nobody was told about.
 */
static void test_newest_segment(void)
{
    char path[512];
    uint64_t pos = 0;

    folder_make();
    write_events(1, 50);
    mr_assert(segment_path(0, path) == 1);
    (void)batch_of(path, 4, &pos);
    flip_byte(path, (long)pos + 60);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    expect(out_text, "lane 0: 40 records, seqs 1 to 40, a torn tail that nobody was told about: "
                     "fine\n");
    mr_assert(run("journal cat") == MR_EXIT_OK);
    expect_seqs(out_text, 1, 40);

    flip_byte(path, (long)pos + 60); /* whole again */
    (void)batch_of(path, 1, &pos);
    flip_byte(path, (long)pos + 60);
    mr_assert(run("journal verify") == MR_EXIT_FAILED);
    expect(out_text, "lane 0: 40 records, seqs 1 to 50: DAMAGED in 1 place, 10 seqs lost\n");
    mr_assert(strstr(err_text, "seqs 11 to 20 are lost") != NULL);
    folder_remove();
}

/* ---- cursors, forget ---- */

/* 3000 events; 'kafka' has delivered 2990 of them, 'old one' 1000. */
static struct mr_journal *journal_with_cursors(void)
{
    struct mr_cursor *cursor = NULL;
    bool is_new = false;

    folder_make();
    write_events(1, 3000);
    struct mr_journal *journal = journal_open(true);
    mr_assert(mr_cursor_open(journal, "old one", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    mr_cursor_set(cursor, 1000);
    mr_assert(mr_cursor_open(journal, "kafka", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    mr_cursor_set(cursor, 2990);
    mr_journal_step_keeper(journal); /* writes them */
    return journal;
}

/* --data names the folder that the log names. */
static int run_forget(const char *name, bool yes)
{
    char *words[] = {
        (char *)"millrace", (char *)"journal", (char *)"forget", (char *)(uintptr_t)name,
        (char *)"--data",   journal_folder,    (char *)"--yes",
    };

    return run_words(yes ? 7 : 6, words);
}

/* Beside a journal that is open, and after it was closed. */
static void test_cursors(void)
{
    static const char json[] = "{\"name\":\"kafka\",\"lane\":0,\"seq\":2990,\"lag\":10}\n"
                               "{\"name\":\"old one\",\"lane\":0,\"seq\":1000,\"lag\":2000}\n";
    struct mr_journal *journal = journal_with_cursors();

    mr_assert(run("journal cursors --json") == MR_EXIT_OK);
    expect(out_text, json);
    expect(err_text, "");
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run("journal cursors --json") == MR_EXIT_OK);
    expect(out_text, json);
    mr_assert(run("journal cursors") == MR_EXIT_OK);
    expect(out_text, "NAME                      LANE           SEQ           LAG\n"
                     "kafka                        0          2990            10\n"
                     "old one                      0          1000          2000\n");
    expect(err_text, "");
    folder_remove();
}

/* A gateway without bridges. */
static void test_cursors_of_nobody(void)
{
    folder_make();
    write_events(1, 10);
    mr_assert(run("journal cursors") == MR_EXIT_OK);
    expect(out_text, "");
    mr_assert(strstr(err_text, "no bridge has a cursor in ") != NULL);
    mr_assert(run_forget("kafka", true) == MR_EXIT_NO_INPUT);
    mr_assert(strstr(err_text, "no bridge has a cursor in ") != NULL);
    folder_remove();
}

static void test_forget_refuses(void)
{
    struct mr_journal *journal = journal_with_cursors();

    for (int yes = 0; yes <= 1; yes++) {
        mr_assert(run_forget("old one", yes != 0) == MR_EXIT_TRY_AGAIN);
        expect(out_text, "");
        mr_assert(strstr(err_text, "only while the gateway is stopped: folder ") != NULL);
        mr_assert(strstr(err_text, " is in use by process ") != NULL);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);

    for (int yes = 0; yes <= 1; yes++) {
        mr_assert(run_forget("kafak", yes != 0) == MR_EXIT_NO_INPUT);
        expect(err_text, "millrace journal forget: there is no cursor 'kafak': did you mean "
                         "'kafka'?\n");
        mr_assert(run_forget("history", yes != 0) == MR_EXIT_NO_INPUT);
        expect(err_text, "millrace journal forget: there is no cursor 'history'; there are: "
                         "'kafka', 'old one'\n");
    }
    mr_assert(run("journal forget") == MR_EXIT_USAGE);
    folder_remove();
}

/* The dry run changes nothing; --yes frees this cursor and no other, so that the
 * journal goes on where it was held, and all events are still there.
 */
static void test_forget(void)
{
    char path[512];
    struct mr_journal *journal = journal_with_cursors();

    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run_forget("old one", false) == MR_EXIT_OK);
    expect(out_text, "would forget 'old one': lane 0, seq 1000, 2000 records behind it that it "
                     "has not delivered\n");
    mr_assert(strstr(err_text, "nothing was changed; add --yes") != NULL);
    mr_assert(run("journal cursors --json") == MR_EXIT_OK);
    mr_assert(strstr(out_text, "\"old one\"") != NULL);

    size_t segments = segment_path(0, path);
    mr_assert(run_forget("old one", true) == MR_EXIT_OK);
    mr_assert(begins(out_text, "forgot 'old one': lane 0, seq 1000, "));
    mr_assert(segment_path(0, path) == segments);
    mr_assert(run("journal cursors --json") == MR_EXIT_OK);
    expect(out_text, "{\"name\":\"kafka\",\"lane\":0,\"seq\":2990,\"lag\":10}\n");
    mr_assert(run_forget("old one", true) == MR_EXIT_NO_INPUT);

    journal = journal_open(true); /* nobody holds what 'kafka' has delivered */
    mr_assert(segment_path(0, path) < segments);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(run("journal verify") == MR_EXIT_OK);
    folder_remove();
}

/* A lane whose newest segment does not read cannot say how far it goes. */
static void test_cursors_of_a_damaged_lane(void)
{
    char path[512];
    struct mr_journal *journal = journal_with_cursors();

    mr_assert(mr_journal_close(journal) == MR_OK);
    size_t count = segment_path(0, path);
    (void)segment_path(count - 1, path);
    flip_byte(path, 20);
    mr_assert(run("journal cursors --json") == MR_EXIT_OK);
    mr_assert(begins(out_text, "{\"name\":\"kafka\",\"lane\":0,\"seq\":2990,\"lag\":null}\n"));
    folder_remove();
}

/* ---- tap ---- */

/* Run tap in a process of its own, its stdout in `path`; returns the pid. */
static pid_t tap_start(const char *line, const char *path)
{
    pid_t pid = fork();

    mr_assert(pid >= 0);
    if (pid != 0) {
        return pid;
    }
    char copy[512];
    char *words[16] = {copy};
    int count = 1;

    (void)alarm(60);
    mr_assert(freopen(path, "w", stdout) != NULL);
    (void)snprintf(copy, sizeof(copy), "millrace tap --data %s %s", folder, line);
    for (char *blank = strchr(copy, ' '); blank != NULL; blank = strchr(blank + 1, ' ')) {
        *blank = '\0';
        words[count] = blank + 1;
        count += 1;
    }
    int code = mr_cli_main(count, words, commands);
    (void)fclose(stdout);
    _exit(code);
}

static int exit_code_of(pid_t pid)
{
    int status = 0;

    mr_assert(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *file_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t capacity = 4 << 20;
    char *text = mr_alloc(capacity);

    mr_assert(file != NULL);
    size_t len = fread(text, 1, capacity - 1, file);
    mr_assert(len < capacity - 1 && fclose(file) == 0);
    text[len] = '\0';
    return text;
}

static void test_tap_follows_across_segments(void)
{
    char path[512];
    char segment[512];

    folder_make();
    (void)snprintf(path, sizeof(path), "%s/tap.out", folder);
    write_events(1, 20);
    pid_t pid = tap_start("--from-start -n 3000 plant/#", path);
    struct mr_journal *journal = journal_open(true);
    for (uint64_t seq = 21; seq <= 3000; seq++) {
        append(journal, seq);
        if (seq % 10 == 0) {
            commit(journal);
        }
    }
    commit(journal);
    mr_assert(exit_code_of(pid) == MR_EXIT_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(segment_path(0, segment) >= 4);

    char *text = file_text(path);
    expect_seqs(text, 1, 3000);
    mr_assert(begins(text, "plant/1/temp {\"seq\":1,"));
    mr_free(text);
    folder_remove();
}

/* "From now": whatever it shows first, from there on nothing is missing. */
static void test_tap_from_now(void)
{
    char path[512];
    uint64_t seq = 20;
    int status = 0;

    folder_make();
    (void)snprintf(path, sizeof(path), "%s/tap.out", folder);
    write_events(1, seq);
    pid_t pid = tap_start("-n 50 plant/#", path);
    struct mr_journal *journal = journal_open(true);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        seq += 1;
        append(journal, seq);
        commit(journal);
    }
    mr_assert(WIFEXITED(status) && WEXITSTATUS(status) == MR_EXIT_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);

    char *text = file_text(path);
    uint64_t first = strtoull(strstr(text, "{\"seq\":") + 7, NULL, 10);
    mr_assert(first > 20);
    expect_seqs(text, first, first + 49);
    mr_free(text);
    folder_remove();
}

static void test_tap_ends_on_sigint(void)
{
    char path[512];
    char *text = NULL;

    folder_make();
    (void)snprintf(path, sizeof(path), "%s/tap.out", folder);
    write_events(1, 10);
    int watch = -1;
    mr_assert(mr_watch_open(folder, &watch, NULL) == MR_OK);
    pid_t pid = tap_start("--from-start #", path);
    do { /* when it has flushed its output, the signals are routed for long */
        (void)mr_watch_wait(watch, INT64_C(100000000));
        mr_free(text);
        text = mr_path_exists(path) ? file_text(path) : mr_strdup("");
    } while (strstr(text, "{\"seq\":10,") == NULL);
    mr_free(text);
    mr_watch_close(watch);
    mr_assert(kill(pid, SIGINT) == 0);
    mr_assert(exit_code_of(pid) == MR_EXIT_OK);
    folder_remove();
}

int main(void)
{
    test_cat_and_verify_across_segments();
    test_ls();
    test_no_journal();
    test_damage_in_a_closed_segment();
    test_damage_to_names();
    test_damage_at_the_end_of_a_closed_segment();
    test_damaged_header();
    test_a_newer_format();
    test_missing_segment();
    test_a_time_in_what_cannot_be_read();
    test_newest_segment();
    test_cursors();
    test_cursors_of_nobody();
    test_cursors_of_a_damaged_lane();
    test_forget_refuses();
    test_forget();
    test_tap_follows_across_segments();
    test_tap_from_now();
    test_tap_ends_on_sigint();
    free(out_text);
    free(err_text);
    return 0;
}
