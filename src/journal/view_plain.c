/* view_plain.c - the records that a journal is full of, read without detours.
 *
 * DESIGN
 *
 * What mr_record_get() asks of every record (has it a name of its own, properties, a packet id, is
 * it an event at all) is answered by two bytes of the usual one.  So those are looked at first,
 * the four numbers in front of the payload are read without asking at each byte whether there is
 * another one (HEAD_MAX bytes are there), and of the names only the reader's own value is
 * fetched, which was made when a name was met first.
 *
 * Whatever does not fit is not judged here: mr_view_event() reads it, and says if it is damaged.
 */
#include "journal/journal_internal.h"

enum {
    HEAD_MAX = 3 + 2 + 5 + 3
}; /* length, type and flags, time, name: what is read here at most */

/* A varint of at most `bytes_max` bytes; NULL: it is longer. */
static inline const uint8_t *take_short(const uint8_t *at, unsigned bytes_max, uint64_t *out)
{
    uint64_t v = *at & 0x7f;

    for (unsigned i = 1; (*at++ & 0x80) != 0; i++) {
        if (i == bytes_max) {
            return NULL;
        }
        v |= (uint64_t)(*at & 0x7f) << (7 * i);
    }
    *out = v;
    return at;
}

static inline void *slot_of(const struct mr_names *names, uint64_t id)
{
    const struct known_name *chunk = id < MR_NAMES_MAX ? names->chunks[id / NAMES_PER_CHUNK] : NULL;

    return chunk != NULL && chunk[id % NAMES_PER_CHUNK].known ? chunk[id % NAMES_PER_CHUNK].slot
                                                              : NULL;
}

bool mr_view_plain(const struct mr_view *view, const struct mr_view_at *at, struct mr_plain *out)
{
    const uint8_t *p = at->records.at;
    const uint8_t *end = at->records.end;
    uint64_t length;
    uint64_t delta;
    uint64_t id;

    if ((size_t)(end - p) < HEAD_MAX || at->seq < view->seq_first || at->seq > view->seq_last) {
        return false;
    }
    p = take_short(p, 3, &length);
    if (p == NULL || length > (size_t)(end - p) || p[0] != MR_RECORD_EVENT || p[1] > 1) {
        return false; /* p[1]: QoS, if no other flag is set and it is not 2 */
    }
    end = p + length;
    out->qos = p[1];
    p = take_short(p + 2, 5, &delta);
    p = p == NULL ? NULL : take_short(p, 3, &id);
    if (p == NULL || p > end) {
        return false;
    }
    out->slot = slot_of(view->names, id);
    out->seq = at->seq;
    out->received_us = (int64_t)((uint64_t)at->time_base_us + (uint64_t)mr_unzigzag(delta));
    out->payload = mr_span_make(p, (size_t)(end - p));
    return out->slot != NULL;
}
