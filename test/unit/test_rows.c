/* test_rows.c
 * links: broker net store journal codec config os base
 *
 * Goal:   the row of a message, with and without the names of who published it; one of a store
 *         that was written before they were kept is read as it always was.
 * Method: bytes by hand.
 */
#include "broker/keep_internal.h"

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

int main(void)
{
    test_before_names_were_kept();
    test_with_names();
    return 0;
}
