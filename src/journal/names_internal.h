/* names_internal.h - client, user and topic once per segment, then by number: the
 * writer's table and what a reader has learned (names.c).
 *
 * Thread: writer_names belong to the lane's owner, mr_names to a reader; views of
 *         other threads only read names that were complete when they got them.
 * Memory: writer: 11 MiB at most, backed when touched.  Reader: 56 bytes a name and
 *         its text.
 * Time:   resolve with a fresh ref ~1 ns, else a look-up of ~60 ns.
 */
#ifndef MR_JOURNAL_NAMES_INTERNAL_H
#define MR_JOURNAL_NAMES_INTERNAL_H

#include "base/hash.h"
#include "journal/journal.h"
#include "journal/reader.h"

/* ---- names (names.c) ---- */

struct name_slot {
    uint64_t hash;
    uint32_t generation; /* of another one: empty */
    uint32_t id;
};

struct name_entry {
    uint32_t at; /* in the bytes */
    uint16_t client_len;
    uint16_t username_len;
    uint16_t topic_len;
};

struct writer_names {
    struct name_slot *slots;
    struct name_entry *entries;
    uint8_t *bytes;
    size_t bytes_used;
    uint32_t generation; /* unique in this process; 0: none */
    uint32_t count;
    struct mr_hash_key key;
};

void mr_writer_names_open(struct writer_names *names);
void mr_writer_names_close(struct writer_names *names);
void mr_writer_names_reset(struct writer_names *names); /* a new segment begins */

/* Decide naming and name_id of an event; true: it defines a name. */
bool mr_writer_names_resolve(struct writer_names *names, struct mr_record_raw *record,
                             struct mr_name_ref *ref);

struct known_name {
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic;
    void *slot; /* the reader's own value */
    bool known;
};

enum { NAMES_PER_CHUNK = 1024, NAME_CHUNKS = MR_NAMES_MAX / NAMES_PER_CHUNK };

struct name_bytes {
    struct name_bytes *next;
    size_t used;
    size_t size;
    uint8_t at[];
};

struct mr_names {
    struct mr_names *next; /* in the reader's list of those it has left */
    struct known_name *chunks[NAME_CHUNKS];
    struct name_bytes *bytes;
    _Atomic uint32_t pins; /* views that use it */
    bool holes;            /* a part of the segment is lost: some ids may be unknown */
    void (*drop)(void *arg, void *value);
    void *drop_arg;
};

struct mr_names *mr_names_new(void);
void mr_names_free(struct mr_names *names); /* drops the slots' values */

/* Learn what the records of a whole, valid batch define.  CORRUPT: our bug. */
enum mr_err mr_names_learn(struct mr_names *names, const uint8_t *batch) MR_MUST_USE;
const struct known_name *mr_names_find(const struct mr_names *names, uint32_t id);

#endif
