/* audit.h - what the files of `millrace audit` share.
 *
 *     audit.c        the books
 *     audit_read.c   from a running gateway, or from the files
 *     audit_accept.c the operator's word
 *     audit_drops.c  the ranges that were dropped
 *     audit_kafka.c  the topics, read back
 *
 * Thread: main.   Memory: a row per cursor; a bit per record while topics are read back.
 * Time:   the books: one question.  Kafka: everything in the topics goes over the network.
 */
#ifndef MR_APP_AUDIT_H
#define MR_APP_AUDIT_H

#include "app/cli/cli.h"
#include "app/ledger.h"
#include "app/settings.h"

/* A range (journal/ranges.h), with its texts. */
struct mr_audit_range {
    struct mr_range range;
    char name[MR_CURSOR_NAME_MAX + 1];
    char reason[MR_RANGE_REASON_MAX + 1];
    char time[40];
};

struct mr_audit {
    struct mr_cli *cli;
    const char *bridge; /* NULL: all */
    char journal_id[37];
    char path[4096];            /* of the journal, without a gateway */
    struct mr_ledger_row *rows; /* by bridge and lane; mr_free() */
    size_t count;
    struct mr_audit_range *ranges; /* in the order of their making; mr_free() */
    size_t range_count;
    struct mr_drop *drops; /* ranges given up, as they were; mr_free() */
    size_t drop_count;
};

/* Fill rows and ranges anew, as they are now.  Not MR_EXIT_OK: why was said. */
int mr_audit_read(struct mr_audit *audit);
void mr_audit_free(struct mr_audit *audit);

/* `audit --accept`: the books of the bridge, in its lane or in all, are accepted as they are. */
int mr_audit_accept(struct mr_audit *audit);

/* audit_drops.c: where no gateway runs, of the journal; else of its answer; show them. */
void mr_audit_drops_read(struct mr_audit *audit, struct mr_journal *journal);
void mr_audit_drops_take(struct mr_audit *audit, struct mr_span answer);
void mr_audit_drops_show(const struct mr_audit *audit);

/* What has `bridge` in Kafka, by the books that were read before?  MR_EXIT_FAILED: not what they
 * say; else why it could not be found out was said.
 */
int mr_audit_kafka(const struct mr_audit *audit, const struct mr_settings *settings,
                   const struct mr_bridge_settings *bridge);

#endif
