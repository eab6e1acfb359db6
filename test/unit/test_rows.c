/* test_rows.c
 * links: broker net store journal codec config os base
 *
 * Goal:   the row of a message, with and without the names of who published it; one of a store
 *         that was written before they were kept is read as it always was.  So it is with the
 *         vectors of older millraces; and with the steps of the clock, which have their bound.
 * Method: bytes by hand, and a store.
 */
#include "broker/keep_internal.h"

#include "os/file.h"

#include <stdio.h>
#include <unistd.h>

static const uint8_t head[8] = {0x40, 0x42, 0x0f}; /* 1,000,000 us */

static struct mr_span row_of(struct mr_text *text, uint8_t flags, const char *rest)
{
    mr_text_bytes(text, head, sizeof(head));
    mr_text_bytes(text, &flags, 1);
    mr_text_add(text, rest);
    return mr_span_make(text->at, text->len);
}

static void test_before_names_were_kept(void)
{
    char bytes[64];
    struct mr_text text = mr_text_over(bytes, sizeof(bytes));
    struct mr_message message;

    mr_assert(message_decode(row_of(&text, 1 | ROW_RETAIN, "\003a/b\002pp\003ann"), &message));
    mr_assert(message.received_us == 1000000 && message.qos == 1 && message.retain);
    mr_assert(mr_span_equal(message.topic, mr_span_of("a/b")));
    mr_assert(mr_span_equal(message.payload, mr_span_of("\003ann")));
    mr_assert(message.client.len == 0 && message.username.len == 0);
}

static void test_with_names(void)
{
    char bytes[64];
    struct mr_text text = mr_text_over(bytes, sizeof(bytes));
    struct mr_message message;

    mr_assert(message_decode(
        row_of(&text, 2 | ROW_RETAIN | ROW_NAMES, "\003a/b\002pp\007press-7\003annpayload"),
        &message));
    mr_assert(message.qos == 2 && message.retain);
    mr_assert(mr_span_equal(message.client, mr_span_of("press-7")));
    mr_assert(mr_span_equal(message.username, mr_span_of("ann")));
    mr_assert(mr_span_equal(message.payload, mr_span_of("payload")));
    text = mr_text_over(bytes, sizeof(bytes));
    mr_assert(!message_decode(row_of(&text, ROW_NAMES, "\003a/b\001p\377"), &message));
}

/* ---- vectors ---- */

static const struct mr_span home = {.at = (const uint8_t *)"\0\0\0\1", .len = 4};

static void put_lane(struct mr_text *text, uint32_t lane, uint64_t seq)
{
    uint8_t bytes[VECTOR_ROW_LANE];

    mr_put_u32(bytes, lane);
    mr_put_u64(bytes + 4, seq);
    mr_text_bytes(text, bytes, sizeof(bytes));
}

static bool vector_of(const struct mr_text *text, struct vector *out, uint32_t *lanes)
{
    struct mr_span span = {.at = NULL};
    bool is = row_vector_get(home, mr_span_make(text->at, text->len), out, &span);

    *lanes = (uint32_t)(span.len / VECTOR_ROW_LANE);
    return is;
}

static void test_vectors(void)
{
    static const uint8_t id[16] = {7};
    static const uint8_t epoch[4] = {3};
    char bytes[256];
    struct mr_text text = mr_text_over(bytes, sizeof(bytes));
    struct vector vector;
    uint32_t lanes = 0;

    mr_text_bytes(&text, id, sizeof(id)); /* the first one: lanes, and nothing else */
    mr_assert(!vector_of(&text, &vector, &lanes));
    put_lane(&text, 0, 5);
    put_lane(&text, 1, 6);
    mr_assert(vector_of(&text, &vector, &lanes));
    mr_assert(vector.home == 1 && vector.epoch == 0 && vector.lanes == 2 && lanes == 2);
    mr_assert(vector.route == UINT64_MAX && vector.overlap == OVERLAP_UNKNOWN);
    mr_text_bytes(&text, id, 1); /* no whole entry */
    mr_assert(!vector_of(&text, &vector, &lanes));

    text = mr_text_over(bytes, sizeof(bytes)); /* one of now */
    mr_text_bytes(&text, id, sizeof(id));
    mr_text_bytes(&text, epoch, sizeof(epoch));
    put_lane(&text, 0, 5);
    put_lane(&text, 4 | VECTOR_LANE_ENDED, 9);
    put_lane(&text, VECTOR_LANE_OVERLAP, OVERLAP_MERGED);
    put_lane(&text, VECTOR_LANE_ROUTE, 4);
    mr_assert(vector_of(&text, &vector, &lanes));
    mr_assert(vector.epoch == 3 && vector.lanes == 1 && vector.route == 4);
    mr_assert(vector.overlap == OVERLAP_MERGED && vector.ended_count == 1);
    mr_assert(vector.ended[0].lane == 4 && vector.ended[0].seq == 9);
    mr_assert(!row_vector_get(mr_span_make(home.at, 3), mr_span_make(text.at, text.len), &vector,
                              &(struct mr_span){0}));
}

/* ---- how the clock was set ---- */

static bool take_steps(void *arg, struct mr_span key, struct mr_span value)
{
    mr_assert(row_is_steps(key));
    row_steps_get(value, arg);
    return true;
}

static void steps_through(struct mr_store *store, const struct clock_step put[CLOCK_STEPS],
                          struct clock_step got[CLOCK_STEPS])
{
    row_steps_put(store, put);
    mr_store_seal(store);
    mr_store_submit(store);
    mr_assert(mr_store_take_written(store));
    mr_assert(mr_store_each(store, MR_STORE_VECTOR, take_steps, got));
}

static void remove_in(void *arg, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    mr_assert(unlink(path) == 0);
}

static void test_steps(void)
{
    char folder[] = "/tmp/mr-rows-XXXXXX";
    struct clock_step put[CLOCK_STEPS] = {{0}};
    struct clock_step got[CLOCK_STEPS] = {{0}};
    struct mr_store *store = NULL;
    struct mr_error why = {.text = ""};

    mr_assert(mkdtemp(folder) != NULL);
    mr_assert(mr_store_open(&store, &(struct mr_store_options){.path = folder, .manual = true},
                            &why) == MR_OK);
    put[0] = (struct clock_step){.before_us = 5, .after_us = 5}; /* a start is none to keep */
    steps_through(store, put, got);
    mr_assert(got[0].after_us == 0);
    put[1] = (struct clock_step){.before_us = 100, .after_us = 90};
    got[0] = (struct clock_step){.before_us = 7, .after_us = 7}; /* this start */
    steps_through(store, put, got);
    mr_assert(got[0].after_us == 7 && got[1].before_us == 100 && got[1].after_us == 90);
    mr_assert(got[2].after_us == 0);
    for (int i = 0; i < CLOCK_STEPS; i++) {
        put[i] = (struct clock_step){.before_us = i + 1, .after_us = i + 2};
    }
    steps_through(store, put, got); /* as many as have room behind the two */
    mr_assert(got[1].before_us == 100 && got[2].before_us == 1);
    mr_assert(got[CLOCK_STEPS - 1].before_us == CLOCK_STEPS - 2);
    mr_store_close(store);
    mr_assert(mr_dir_list(folder, remove_in, folder) == MR_OK && rmdir(folder) == 0);
}

int main(void)
{
    test_before_names_were_kept();
    test_with_names();
    test_vectors();
    test_steps();
    return 0;
}
