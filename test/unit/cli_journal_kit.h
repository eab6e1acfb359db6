/* cli_journal_kit.h - a journal in a folder of its own, ways to hurt it, and the commands
 * that look at it, run as main() runs them.
 *
 *     folder_make() ─▶ write_events(1, 3000) ─▶ flip_byte() ... ─▶ run("journal verify")
 *                  ◀── folder_remove()             out_text, err_text ◀──┘
 *
 * Thread: the test's.   Memory: static; one folder at a time.
 */
#ifndef MR_TEST_CLI_JOURNAL_KIT_H
#define MR_TEST_CLI_JOURNAL_KIT_H

#include "cli_run.h"
#include "journal/journal.h"
#include "journal/scan.h"
#include "os/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[256]; /* --data */
static char journal_folder[300];
static char lane_folder[320];

static const struct mr_command *const commands[] = {&mr_command_journal, &mr_command_tap, NULL};

/* ---- folders ---- */

static inline void folder_make(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/mr-cli-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
    (void)snprintf(journal_folder, sizeof(journal_folder), "%s/journal", folder);
    (void)snprintf(lane_folder, sizeof(lane_folder), "%s/lane-00", journal_folder);
    mr_assert(mr_dir_create(journal_folder, NULL) == MR_OK);
}

static inline void remove_under(void *arg, const char *name)
{
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, remove_under, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static inline void folder_remove(void)
{
    mr_assert(mr_dir_list(folder, remove_under, folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

/* ---- writing ---- */

static inline struct mr_journal *journal_open(bool manual)
{
    struct mr_journal *journal = NULL;
    struct mr_recovery recovery;
    struct mr_error why;
    const struct mr_journal_options options = {
        .path = journal_folder,
        .name = "test",
        .lane_count = 1,
        .max_bytes = 64 << 20,
        .segment_bytes = 64 << 10,
        .block_bytes = 16 << 10,
        .block_count = 12,
        .record_bytes_max = 8 << 10,
        .manual = manual,
    };

    enum mr_err err = mr_journal_open(&journal, &options, &recovery, &why);
    if (err != MR_OK) {
        (void)fprintf(stderr, "journal: %s\n", why.text);
    }
    mr_assert(err == MR_OK);
    return journal;
}

static inline void commit(struct mr_journal *journal)
{
    static int64_t now_ns;
    struct mr_lane *lane = mr_journal_lane(journal, 0);

    now_ns += 1000000000; /* long enough for any batch to have gathered */
    (void)mr_lane_submit(lane, now_ns);
    while (mr_lane_step_commit(lane)) {
    }
    mr_lane_release(lane, mr_lane_durable(lane));
    mr_journal_step_keeper(journal);
}

/* One event; its payload is a JSON object with its seq.  Not yet durable. */
static inline void append(struct mr_journal *journal, uint64_t seq)
{
    char client[32];
    char topic[32];
    char payload[128];
    struct mr_appended out;

    (void)snprintf(client, sizeof(client), "dev-%u", (unsigned)(seq % 7));
    (void)snprintf(topic, sizeof(topic), "plant/%u/temp", (unsigned)(seq % 7));
    (void)snprintf(payload, sizeof(payload), "{\"seq\":%llu,\"pad\":\"%060d\"}",
                   (unsigned long long)seq, 0);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)seq,
        .client = mr_span_of(client),
        .username = mr_span_of(""),
        .topic = mr_span_of(topic),
        .payload = mr_span_of(payload),
        .qos = 1,
    };
    while (mr_lane_append(mr_journal_lane(journal, 0), &record, NULL, &out) != MR_OK) {
        commit(journal);
    }
    mr_assert(out.seq == seq);
}

/* Events `from` to `to`, ten a batch. */
static inline void write_events(uint64_t from, uint64_t to)
{
    struct mr_journal *journal = journal_open(true);

    for (uint64_t seq = from; seq <= to; seq++) {
        append(journal, seq);
        if (seq % 10 == 0) {
            commit(journal);
        }
    }
    commit(journal);
    mr_assert(mr_lane_durable(mr_journal_lane(journal, 0)) == to);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* The `index`-th segment's path; how many there are. */
static inline size_t segment_path(size_t index, char out[512])
{
    char **paths = NULL;
    size_t count = 0;

    mr_assert(mr_scan_list(lane_folder, &paths, &count) == MR_OK);
    for (size_t i = 0; i < count; i++) {
        if (i == index) {
            (void)snprintf(out, 512, "%s", paths[i]);
        }
        mr_free(paths[i]);
    }
    mr_free(paths);
    return count;
}

static inline void flip_byte(const char *path, long pos)
{
    FILE *file = fopen(path, "r+b");

    mr_assert(file != NULL && fseek(file, pos, SEEK_SET) == 0);
    int byte = fgetc(file);
    mr_assert(byte != EOF && fseek(file, pos, SEEK_SET) == 0);
    mr_assert(fputc(byte ^ 0x40, file) != EOF && fclose(file) == 0);
}

/* First seq, count and position of the `index`-th batch of a segment. */
static inline struct mr_batch_header batch_of(const char *path, size_t index, uint64_t *pos)
{
    struct mr_scan *scan = NULL;
    struct mr_segment_header segment;
    struct mr_batch_header header = {0};
    struct mr_span batch;

    mr_assert(mr_scan_open(&scan, path, &segment, NULL) == MR_OK);
    for (size_t i = 0; i <= index; i++) {
        mr_assert(mr_scan_next(scan, &header, &batch, pos) == MR_OK);
    }
    mr_scan_close(scan);
    return header;
}

/* ---- running commands ---- */

static inline int run_words(int count, char **words)
{
    return cli_run(count, words, commands);
}

static inline int run(const char *line)
{
    char copy[512];
    char *words[17] = {copy};
    int count = 1;

    (void)snprintf(copy, sizeof(copy), "millrace %s --data %s", line, folder);
    for (char *blank = strchr(copy, ' '); blank != NULL; blank = strchr(blank + 1, ' ')) {
        *blank = '\0';
        mr_assert(count < 16);
        words[count] = blank + 1;
        count += 1;
    }
    return run_words(count, words);
}

static inline bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static inline void expect(const char *got, const char *wanted)
{
    if (strcmp(got, wanted) != 0) {
        (void)fprintf(stderr, "wanted:\n%s\n---- got:\n%.2000s\n----\n", wanted, got);
        mr_assert(false);
    }
}

/* Lines that carry {"seq":N}: are they exactly from .. to, one each, in order? */
static inline void expect_seqs(const char *text, uint64_t from, uint64_t to)
{
    uint64_t seq = from;

    for (const char *at = strstr(text, "{\"seq\":"); at != NULL; at = strstr(at + 1, "{\"seq\":")) {
        mr_assert(strtoull(at + 7, NULL, 10) == seq);
        seq += 1;
    }
    mr_assert(seq == to + 1);
}

#endif
