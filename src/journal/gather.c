/* gather.c - how long a batch gathers before it goes to the disk.
 *
 * DESIGN
 *
 * A commit costs 50 to 100 us of CPU, all threads together, and 50 bytes, however
 * little it carries; an event that waits for company costs its sender time.  So a batch
 * gathers, up to `limit_ns` after the last one was handed over, if there is company to
 * come:
 *
 * Who sends without waiting for us is seen while the disk is busy: what arrives then does
 * not hang on an acknowledgement.  If that rate brings RECORDS_WORTH events within the
 * limit, the batch waits for them.  Clients that all wait for us bring nothing meanwhile.
 *
 * Who waits for us comes back when the last batch was acknowledged, a little after one
 * another.  So without such a rate, a batch waits NS_PER_RECORD for each record beyond the
 * first that batches carry at present.
 *
 * It ends early when everybody is back (as many records as the last batch had, and as
 * came while it was written), or when it is quiet: nothing has come for QUIET_NS, or for
 * QUIET_GAPS times the usual distance of two records.  In all of these cases only someone
 * new would still come.
 *
 * At 10,000 events/s that is 5 events a commit instead of 2, at 20,000 it is 11.
 *
 * Naps.  While such a batch gathers, what is read only waits in it.  So the owner need not
 * wake up for each event: it reads all of them shortly before the batch goes, as network
 * cards do with their interrupts.  A wake-up costs several times what reading a small packet
 * does.  How long before is learnt: by how much batches that were read so were late.  An
 * owner who has no time to spare finds that he has none to nap.
 *
 * Rejected: a rate by the clock.  Clients that wait for us have one too, and it falls the
 * longer we wait for them.
 */
#include "journal/gather_internal.h"

enum {
    RECORDS_WITHOUT_DELAY = 1,
    NS_PER_RECORD = 100000,
    RECORDS_WORTH = 2,
    QUIET_NS = 100000,
    QUIET_GAPS = 3,
    EWMA_SHIFT = 3,
    FADE_SHIFT = 4, /* of the rate: the last 16 commits */
    NAP_NS_MIN = 50000,
    NAP_NS_MAX = 500000,
    NAP_FADE_SHIFT = 4,
    LATE_NS = 75000, /* is in time: no timer wakes anybody up sooner behind its time */
};

void mr_gather_start(struct gather *gather, uint64_t seq_next)
{
    *gather =
        (struct gather){.seq_arrived = seq_next, .seq_handed = seq_next, .seq_before = seq_next};
}

void mr_gather_sealed(struct gather *gather, uint32_t count)
{
    gather->records_ewma += count - (gather->records_ewma >> EWMA_SHIFT);
}

/* What came while the last commit ran.  It is counted at the look behind the one that finds it
 * done, because then those events have been read that were there already.
 */
static void gather_count(struct gather *gather)
{
    int64_t busy_ns = gather->done_ns - gather->handed_ns;

    gather->commit = COMMIT_COUNTED;
    gather->busy_records = gather->seq_arrived - gather->seq_handed;
    gather->busy_records_sum += gather->busy_records - (gather->busy_records_sum >> FADE_SHIFT);
    gather->busy_ns_sum += busy_ns - (gather->busy_ns_sum >> FADE_SHIFT);
}

void mr_gather_look(struct gather *gather, uint64_t seq_next, bool busy, int64_t now_ns)
{
    if (gather->seq_arrived != seq_next) {
        gather->seq_arrived = seq_next;
        gather->arrived_ns = now_ns;
    }
    if (gather->commit == COMMIT_DONE) {
        gather_count(gather);
    } else if (gather->commit == COMMIT_RUNS && !busy) {
        gather->commit = COMMIT_DONE;
        gather->done_ns = now_ns;
    }
}

/* Do enough events come by themselves that it is worth waiting for them? */
static bool gather_is_worth(const struct gather *gather, int64_t limit_ns)
{
    return gather->busy_records_sum * (uint64_t)limit_ns >=
               RECORDS_WORTH * (uint64_t)gather->busy_ns_sum &&
           gather->busy_records_sum != 0;
}

static int64_t gather_delay_ns(const struct gather *gather, int64_t limit_ns)
{
    int64_t records = gather->records_ewma >> EWMA_SHIFT;
    int64_t delay_ns = (records - RECORDS_WITHOUT_DELAY) * NS_PER_RECORD;

    if (delay_ns <= 0) {
        return 0;
    }
    return delay_ns < limit_ns ? delay_ns : limit_ns;
}

int64_t mr_gather_left_ns(const struct gather *gather, int64_t limit_ns, int64_t now_ns)
{
    uint64_t awaited = gather->seq_handed - gather->seq_before + gather->busy_records;
    int64_t delay_ns = gather_delay_ns(gather, limit_ns);
    int64_t quiet_ns = QUIET_NS;

    if (gather->commit == COMMIT_COUNTED && gather->seq_arrived - gather->seq_handed >= awaited) {
        return 0;
    }
    if (gather_is_worth(gather, limit_ns)) {
        int64_t gaps_ns = QUIET_GAPS * gather->busy_ns_sum / (int64_t)gather->busy_records_sum;

        delay_ns = limit_ns;
        quiet_ns = gaps_ns > quiet_ns ? gaps_ns : quiet_ns;
    }
    int64_t due_ns = gather->handed_ns + delay_ns;
    int64_t end_ns = gather->arrived_ns + quiet_ns;
    due_ns = end_ns < due_ns ? end_ns : due_ns;
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

/* Who hung on the last commit and is not back is worth no nap: it would only come later. */
bool mr_gather_naps(const struct gather *gather, int64_t limit_ns)
{
    return gather->busy_records != 0 && gather->commit != COMMIT_DONE &&
           gather_is_worth(gather, limit_ns);
}

int64_t mr_gather_nap_ns(struct gather *gather, int64_t limit_ns, int64_t now_ns)
{
    int64_t left_ns = gather->handed_ns + limit_ns - gather->nap_lead_ns - now_ns;

    if (left_ns < NAP_NS_MIN) {
        return 0;
    }
    gather->napped = true;
    return left_ns < NAP_NS_MAX ? left_ns : NAP_NS_MAX;
}

/* A late batch makes the lead longer, and a little of it is tried away each time. */
static void gather_learn_lead(struct gather *gather, int64_t late_ns)
{
    gather->nap_lead_ns -= gather->nap_lead_ns >> NAP_FADE_SHIFT;
    if (gather->napped && late_ns > LATE_NS) {
        gather->nap_lead_ns += (late_ns - LATE_NS) / 2;
    }
    gather->napped = false;
}

void mr_gather_handed(struct gather *gather, int64_t limit_ns, int64_t now_ns)
{
    if (gather->commit == COMMIT_DONE) {
        gather_count(gather);
    }
    gather_learn_lead(gather, now_ns - gather->handed_ns - limit_ns);
    gather->seq_before = gather->seq_handed;
    gather->seq_handed = gather->seq_arrived;
    gather->handed_ns = now_ns;
    gather->commit = COMMIT_RUNS;
}
