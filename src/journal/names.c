/* names.c - client, user and topic once per segment, then by number.
 *
 * DESIGN
 *
 * Writer: an open-addressing table of the names defined in the current segment.
 * A new segment raises the generation, which empties the table without touching
 * it and makes every mr_name_ref that callers keep stale at once.  Generations
 * come from one counter of the process, so a ref of another lane or of a journal
 * that was closed never matches by chance.  The hash is keyed: clients choose
 * their ids.  Names are compared byte by byte; a hash alone would one day send
 * an event under another device's name.
 *
 * Reader: names by id, in chunks that never move, so that spans handed out stay.
 * A define carries its id, so a lost batch costs the names it defined, not the
 * meaning of all later ids.
 *
 * When the table's memory is used up, further names go inline: correct, only
 * longer.
 */
#include "journal/journal_internal.h"

#include "os/process.h"

enum {
    NAME_SLOTS = 2 * MR_NAMES_MAX,
    NAME_BYTES_MAX = 8 << 20,
    NAME_CHUNK_BYTES = 64 << 10,
};

static _Atomic uint32_t generation_last;

void mr_writer_names_open(struct writer_names *names)
{
    /* 11 MiB at most; the system backs what is touched. */
    names->slots = mr_alloc(NAME_SLOTS * sizeof(*names->slots));
    names->entries = mr_alloc(MR_NAMES_MAX * sizeof(*names->entries));
    names->bytes = mr_alloc(NAME_BYTES_MAX);
    mr_os_random(&names->key, sizeof(names->key));
    mr_writer_names_reset(names);
}

void mr_writer_names_close(struct writer_names *names)
{
    mr_free(names->slots);
    mr_free(names->entries);
    mr_free(names->bytes);
}

void mr_writer_names_reset(struct writer_names *names)
{
    do {
        names->generation =
            atomic_fetch_add_explicit(&generation_last, 1, memory_order_relaxed) + 1;
    } while (names->generation == 0);
    names->count = 0;
    names->bytes_used = 0;
}

static uint64_t names_hash(const struct writer_names *names, const struct mr_record_raw *record)
{
    uint64_t hash = mr_siphash(&names->key, record->topic.at, record->topic.len);

    hash = hash * 0x9e3779b97f4a7c15ull +
           mr_siphash(&names->key, record->client.at, record->client.len);
    if (record->username.len != 0) {
        hash = hash * 0x9e3779b97f4a7c15ull +
               mr_siphash(&names->key, record->username.at, record->username.len);
    }
    return hash;
}

static bool entry_is(const struct writer_names *names, uint32_t id,
                     const struct mr_record_raw *record)
{
    const struct name_entry *entry = &names->entries[id];
    const uint8_t *at = names->bytes + entry->at;

    return mr_span_equal(mr_span_make(at, entry->client_len), record->client) &&
           mr_span_equal(mr_span_make(at + entry->client_len, entry->username_len),
                         record->username) &&
           mr_span_equal(
               mr_span_make(at + entry->client_len + entry->username_len, entry->topic_len),
               record->topic);
}

static void bytes_add(struct writer_names *names, struct mr_span span)
{
    if (span.len != 0) {
        memcpy(names->bytes + names->bytes_used, span.at, span.len);
    }
    names->bytes_used += span.len;
}

/* False: it has to go inline. */
static bool names_define(struct writer_names *names, struct name_slot *slot, uint64_t hash,
                         const struct mr_record_raw *record)
{
    size_t len = record->client.len + record->username.len + record->topic.len;

    if (names->count == MR_NAMES_MAX || names->bytes_used + len > NAME_BYTES_MAX ||
        record->client.len > UINT16_MAX || record->username.len > UINT16_MAX ||
        record->topic.len > UINT16_MAX) {
        return false;
    }
    names->entries[names->count] = (struct name_entry){
        .at = (uint32_t)names->bytes_used,
        .client_len = (uint16_t)record->client.len,
        .username_len = (uint16_t)record->username.len,
        .topic_len = (uint16_t)record->topic.len,
    };
    bytes_add(names, record->client);
    bytes_add(names, record->username);
    bytes_add(names, record->topic);
    *slot = (struct name_slot){.hash = hash, .generation = names->generation, .id = names->count};
    names->count += 1;
    return true;
}

bool mr_writer_names_resolve(struct writer_names *names, struct mr_record_raw *record,
                             struct mr_name_ref *ref)
{
    if (MR_LIKELY(ref != NULL && ref->generation == names->generation)) {
        record->naming = MR_NAMING_REFERENCE;
        record->name_id = ref->id;
        return false;
    }

    uint64_t hash = names_hash(names, record);
    struct name_slot *slot = &names->slots[hash % NAME_SLOTS];
    bool defines = false;

    /* At most half of the slots are taken, so an empty one ends the walk. */
    while (slot->generation == names->generation &&
           !(slot->hash == hash && entry_is(names, slot->id, record))) {
        slot = slot + 1 == names->slots + NAME_SLOTS ? names->slots : slot + 1;
    }
    if (slot->generation == names->generation) {
        record->naming = MR_NAMING_REFERENCE;
    } else if (names_define(names, slot, hash, record)) {
        record->naming = MR_NAMING_DEFINE;
        defines = true;
    } else {
        record->naming = MR_NAMING_INLINE;
        return false;
    }
    record->name_id = slot->id;
    if (ref != NULL) {
        *ref = (struct mr_name_ref){.generation = names->generation, .id = slot->id};
    }
    return defines;
}

/* ---- reader ---- */

struct mr_names *mr_names_new(void)
{
    return mr_alloc(sizeof(struct mr_names));
}

void mr_names_free(struct mr_names *names)
{
    if (names == NULL) {
        return;
    }
    for (size_t c = 0; c < NAME_CHUNKS && names->chunks[c] != NULL; c++) {
        for (size_t i = 0; names->drop != NULL && i < NAMES_PER_CHUNK; i++) {
            if (names->chunks[c][i].slot != NULL) {
                names->drop(names->drop_arg, names->chunks[c][i].slot);
            }
        }
        mr_free(names->chunks[c]);
    }
    while (names->bytes != NULL) {
        struct name_bytes *next = names->bytes->next;
        mr_free(names->bytes);
        names->bytes = next;
    }
    mr_free(names);
}

static struct known_name *names_entry(struct mr_names *names, uint32_t id)
{
    /* Chunks are filled from the front, so that free() may stop at a hole. */
    for (size_t c = 0; c <= id / NAMES_PER_CHUNK; c++) {
        if (names->chunks[c] == NULL) {
            names->chunks[c] = mr_alloc(NAMES_PER_CHUNK * sizeof(struct known_name));
        }
    }
    return &names->chunks[id / NAMES_PER_CHUNK][id % NAMES_PER_CHUNK];
}

static struct mr_span names_keep(struct mr_names *names, struct mr_span span)
{
    struct name_bytes *bytes = names->bytes;

    if (bytes == NULL || bytes->size - bytes->used < span.len) {
        size_t size = span.len > NAME_CHUNK_BYTES ? span.len : NAME_CHUNK_BYTES;

        bytes = mr_alloc(sizeof(*bytes) + size);
        bytes->size = size;
        bytes->next = names->bytes;
        names->bytes = bytes;
    }
    uint8_t *at = bytes->at + bytes->used;
    if (span.len != 0) {
        memcpy(at, span.at, span.len);
    }
    bytes->used += span.len;
    return (struct mr_span){.at = at, .len = span.len};
}

enum mr_err mr_names_learn(struct mr_names *names, const uint8_t *batch)
{
    struct mr_batch_header header;
    struct mr_take take;
    enum mr_err err = MR_OK;

    mr_batch_header_read(batch, &header);
    take = mr_take_from(
        mr_span_make(batch + MR_BATCH_HEADER_BYTES, header.byte_length - MR_BATCH_HEADER_BYTES));
    while (take.at != take.end) {
        const uint8_t *record_at = take.at;
        struct mr_span content = mr_take_bytes(&take, mr_take_varint(&take));

        if (take.failed) {
            return MR_ERR_CORRUPT;
        }
        if (content.len < 2 || content.at[0] != MR_RECORD_EVENT ||
            (content.at[1] >> 4 & 3) != MR_NAMING_DEFINE) {
            continue;
        }
        struct mr_take one = {.at = record_at, .end = take.at};
        struct mr_record_raw raw;
        if (mr_record_get(&one, 0, &raw) != MR_OK) {
            err = MR_ERR_CORRUPT; /* what is behind it is learned all the same */
            continue;
        }
        struct known_name *entry = names_entry(names, raw.name_id);
        if (!entry->known) {
            entry->client = names_keep(names, raw.client);
            entry->username = names_keep(names, raw.username);
            entry->topic = names_keep(names, raw.topic);
            entry->known = true;
        }
    }
    return err;
}

const struct known_name *mr_names_find(const struct mr_names *names, uint32_t id)
{
    const struct known_name *chunk = names->chunks[id / NAMES_PER_CHUNK];

    return chunk != NULL && chunk[id % NAMES_PER_CHUNK].known ? &chunk[id % NAMES_PER_CHUNK] : NULL;
}

void **mr_names_slot(struct mr_names *names, uint32_t name_id)
{
    mr_assert(name_id < MR_NAMES_MAX);
    return &names_entry(names, name_id)->slot;
}

void mr_names_on_drop(struct mr_names *names, void (*drop)(void *arg, void *value), void *arg)
{
    names->drop = drop;
    names->drop_arg = arg;
}
