/* bench_event.c - the event that all programs of this folder send; see bench.h. */
#include "bench.h"

static const char event_head[] = "{\"d\":1000000,\"s\":1000000000,\"t\":1000000000000000000,";
static const char event_body[] = "\"v\":21.50,\"x\":\"";

_Static_assert(sizeof(event_head) - 1 == BENCH_TIME_AT + BENCH_TIME_DIGITS + 1, "places");
_Static_assert(sizeof(event_head) + sizeof(event_body) - 2 + 2 <= BENCH_EVENT_MIN + 2, "room");

void bench_digits_write(uint8_t *at, unsigned digits, uint64_t value)
{
    for (unsigned i = digits; i > 0; i--) {
        at[i - 1] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
    mr_assert(value == 0);
}

void bench_event_write(uint8_t *at, size_t bytes, const struct bench_event *event)
{
    const size_t head_len = sizeof(event_head) - 1;
    const size_t body_len = sizeof(event_body) - 1;

    mr_assert(bytes >= BENCH_EVENT_MIN && bytes <= BENCH_EVENT_MAX);
    mr_assert(event->device < BENCH_DEVICES_MAX);
    memcpy(at, event_head, head_len);
    memcpy(at + head_len, event_body, body_len);
    for (size_t i = head_len + body_len; i < bytes - 2; i++) {
        at[i] = (uint8_t)('a' + i % 26);
    }
    memcpy(at + bytes - 2, "\"}", 2);
    bench_digits_write(at + BENCH_DEVICE_AT, BENCH_DEVICE_DIGITS,
                       BENCH_DEVICE_BASE + event->device);
    bench_digits_write(at + BENCH_SEQ_AT, BENCH_SEQ_DIGITS, BENCH_SEQ_BASE + event->seq);
    bench_digits_write(at + BENCH_TIME_AT, BENCH_TIME_DIGITS, (uint64_t)event->wall_ns);
}

/* False: something else than digits. */
static bool event_digits_read(const uint8_t *at, unsigned digits, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < digits; i++) {
        unsigned digit = (unsigned)at[i] - '0';
        if (digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool bench_event_read(const uint8_t *at, size_t bytes, struct bench_event *out)
{
    uint64_t device = 0;
    uint64_t seq = 0;
    uint64_t wall_ns = 0;

    if (bytes < BENCH_EVENT_MIN || memcmp(at, event_head, BENCH_DEVICE_AT) != 0 ||
        !event_digits_read(at + BENCH_DEVICE_AT, BENCH_DEVICE_DIGITS, &device) ||
        !event_digits_read(at + BENCH_SEQ_AT, BENCH_SEQ_DIGITS, &seq) ||
        !event_digits_read(at + BENCH_TIME_AT, BENCH_TIME_DIGITS, &wall_ns) ||
        device < BENCH_DEVICE_BASE || seq < BENCH_SEQ_BASE) {
        return false;
    }
    *out = (struct bench_event){
        .device = device - BENCH_DEVICE_BASE,
        .seq = seq - BENCH_SEQ_BASE,
        .wall_ns = (int64_t)wall_ns,
    };
    return true;
}

size_t bench_client_id(char *into, size_t size, uint64_t device)
{
    int len = snprintf(into, size, "dev%llu", (unsigned long long)device);

    mr_assert(len > 0 && (size_t)len < size);
    return (size_t)len;
}
