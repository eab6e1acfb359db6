/* format.h - the bytes of the journal, exactly as docs/JOURNAL.md says.
 *
 * Pure: bytes in, structs out, and the other way round.  The only place that
 * knows an offset.  mr_batch_check() is the validity predicate; recovery,
 * readers and `millrace journal verify` all use this one function.
 *
 * Thread: pure functions.   Memory: none; spans borrow the caller's bytes.
 * Time:   decoding an event ~10 ns.
 */
#ifndef MR_JOURNAL_FORMAT_H
#define MR_JOURNAL_FORMAT_H

#include "base/bytes.h"

enum {
    MR_FORMAT_VERSION = 1, /* of segments and cursors */
    MR_META_VERSION = 3,   /* of meta; what is not used of it is written as 2 */
    MR_META_VERSION_BASE = 2,
    MR_META_BYTES = 128,            /* its fixed part; earlier epochs follow */
    MR_SEGMENT_HEADER_BYTES = 4096, /* 64 are used; batches begin behind it */
    MR_BATCH_HEADER_BYTES = 48,
    MR_BATCH_MAGIC = 0x3142524d, /* "MRB1" */
    MR_BATCH_ALIGN = 8,
    MR_NAMES_MAX = 65536, /* defined per segment; later ones go inline */
    MR_CURSOR_SLOT_BYTES = 256,
};

struct mr_journal_id {
    uint8_t bytes[16];
};

/* 36 characters and NUL, lower case, as RFC 9562 writes UUIDs. */
void mr_journal_id_text(const struct mr_journal_id *id, char out[37]);

struct mr_segment_header {
    struct mr_journal_id journal_id;
    uint64_t seq_first;
    int64_t created_us;
    uint32_t epoch;
    uint32_t salt;
    uint32_t segment_bytes;
    uint16_t lane;
};

void mr_segment_header_put(const struct mr_segment_header *header, uint8_t out[64]);

/* MR_ERR_CORRUPT: not a segment header; MR_ERR_CONFIG: a newer format version. */
enum mr_err mr_segment_header_get(const uint8_t in[64], struct mr_segment_header *out) MR_MUST_USE;

struct mr_batch_header {
    uint64_t seq_first;
    uint64_t durable_seq;
    int64_t time_base_us;
    uint32_t crc;
    uint32_t byte_length;
    uint32_t record_count;
    uint32_t salt;
    uint32_t epoch;
};

/* Write the header, CRC included; the records must already stand behind it. */
void mr_batch_header_put(const struct mr_batch_header *header, uint8_t *batch);

/* The fields of a header as they stand, unchecked: for batches that have passed
 * the predicate, or were written by this process.  `batch` has 48 bytes.
 */
void mr_batch_header_read(const uint8_t *batch, struct mr_batch_header *out);

/* THE predicate.  `bytes` is what the file holds from the batch's position to
 * the end of what was read; `pos` its position.  `seq_expected` 0 leaves rule 4
 * out (only the search for corruption does).
 *
 * MR_OK           valid, `out` filled
 * MR_ERR_AGAIN    needs `out->byte_length` bytes, and fewer were given
 * MR_ERR_CORRUPT  not a valid batch
 */
enum mr_err mr_batch_check(struct mr_span bytes, uint64_t pos,
                           const struct mr_segment_header *segment, uint64_t seq_expected,
                           struct mr_batch_header *out) MR_MUST_USE;

/* Does a valid batch behind an invalid place prove that what stood there, from
 * `seq_expected` on, had been durable?  It does if it says so itself, or if it is of
 * the segment's first commit, which had to be synced for the file to get its name
 * (docs/JOURNAL.md, Recovery).  Else the place is the torn tail of a commit.
 */
static inline bool mr_batch_proves(const struct mr_batch_header *later,
                                   const struct mr_segment_header *segment, uint64_t seq_expected)
{
    return later->durable_seq >= seq_expected || later->durable_seq < segment->seq_first;
}

/* Position of the batch that follows one of `byte_length` at `pos`. */
static inline uint64_t mr_batch_next_pos(uint64_t pos, uint32_t byte_length)
{
    return (pos + byte_length + MR_BATCH_ALIGN - 1) & ~(uint64_t)(MR_BATCH_ALIGN - 1);
}

enum mr_record_type {
    MR_RECORD_EVENT = 1,
    MR_RECORD_PUBREL = 2,
    MR_RECORD_SESSION = 3,
    MR_RECORD_GAP = 4,
    MR_RECORD_DEAD_LETTER = 5,
    MR_RECORD_LETTERS_DONE = 6,
    MR_RECORD_LETTERS_RETRY = 7,
};

/* Why the seqs of a gap record have nothing behind them. */
enum mr_gap_reason {
    MR_GAP_LOST = 1, /* damaged, and taken out by a repair */
};

enum mr_naming { MR_NAMING_REFERENCE = 0, MR_NAMING_DEFINE = 1, MR_NAMING_INLINE = 2 };

/* One record, decoded; spans borrow the batch's bytes. */
struct mr_record_raw {
    int64_t received_us;
    struct mr_span client; /* empty for MR_NAMING_REFERENCE */
    struct mr_span username;
    struct mr_span topic;
    struct mr_span properties; /* MQTT 5, as received */
    struct mr_span payload;
    struct mr_span body; /* of other types than EVENT and DEAD_LETTER: all of it */
    uint32_t name_id;    /* for MR_NAMING_REFERENCE and MR_NAMING_DEFINE */
    uint16_t packet_id;
    uint8_t type;
    uint8_t naming;
    uint8_t qos;
    bool retain;
    bool will;
    /* dead letters */
    uint32_t dead_lane;
    uint32_t dead_epoch;
    uint64_t dead_seq;
    struct mr_span dead_bridge;
    struct mr_span dead_reason;
};

/* Bytes that mr_record_put() writes for `record`. */
size_t mr_record_size(const struct mr_record_raw *record, int64_t time_base_us);

/* Append the record at `out`; returns the byte after it.  *payload_at, if not
 * NULL, is where the payload now stands.
 */
uint8_t *mr_record_put(uint8_t *out, const struct mr_record_raw *record, int64_t time_base_us,
                       const uint8_t **payload_at);

/* The same of an event of QoS 0 or 1 that has a name by reference, a payload and nothing else: what
 * comes by the million.
 */
uint8_t *mr_record_put_again(uint8_t *out, uint32_t name_id, uint8_t qos, int64_t delta_us,
                             struct mr_span payload);

/* Take the next record off `take`.  MR_ERR_CORRUPT: it does not parse.
 * Unknown types decode to their `body`.
 */
enum mr_err mr_record_get(struct mr_take *take, int64_t time_base_us,
                          struct mr_record_raw *out) MR_MUST_USE;

#endif
