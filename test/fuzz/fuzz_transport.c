/* fuzz_transport.c - what lies between a socket and MQTT: PROXY headers, the HTTP upgrade and
 * WebSocket frames.
 *
 * Input: one byte that chooses which (and how a stream is cut), then what a peer sends.
 * Promised: nothing is read or written beyond its end; a header needs all its bytes, whatever
 * comes behind them; a stream of frames means the same however it arrives.
 */
#include "fuzz.h"

#include "base/rng.h"
#include "net/proxy_header_internal.h"
#include "net/ws_frames_internal.h"
#include "net/ws_upgrade_internal.h"

#include <stdlib.h>

enum { WHAT_PROXY, WHAT_UPGRADE, WHAT_FRAMES };

static void fuzz_proxy(struct mr_span bytes)
{
    struct proxy_header header;
    const char *what = NULL;
    enum mr_err err = proxy_header_read(bytes, &header, &what);

    if (err == MR_ERR_REJECT) {
        mr_assert(what != NULL && what[0] != 0);
        return;
    }
    if (err != MR_OK) {
        mr_assert(err == MR_ERR_AGAIN && bytes.len < PROXY_HEADER_MAX);
        return;
    }
    mr_assert(header.len != 0 && header.len <= bytes.len && header.len <= PROXY_HEADER_MAX);
    mr_assert(strnlen(header.peer, sizeof(header.peer)) < sizeof(header.peer));
    mr_assert(strnlen(header.identity, sizeof(header.identity)) < sizeof(header.identity));
    struct proxy_header again;
    struct mr_span shorter = mr_span_make(bytes.at, header.len - 1);
    mr_assert(proxy_header_read(shorter, &again, &what) == MR_ERR_AGAIN);
}

static void fuzz_upgrade(struct mr_span bytes)
{
    static const char *const origins[] = {"https://plant.example"};
    static const struct ws_upgrade rules = {.path = "/mqtt", .origins = origins, .origin_count = 1};
    struct ws_answer answer = {.len = 0};
    struct mr_error why = {.text = ""};
    size_t len = ws_head_len(bytes);

    if (len == 0) {
        enum mr_err refused = ws_upgrade_refuse_head(bytes, &answer, &why);
        mr_assert(refused == MR_ERR_REJECT && why.text[0] != 0);
        return;
    }
    enum mr_err err = ws_upgrade(&rules, mr_span_make(bytes.at, len), &answer, &why);
    mr_assert(answer.len != 0 && answer.len < sizeof(answer.text) - 1);
    mr_assert(memcmp(answer.text, err == MR_OK ? "HTTP/1.1 101" : "HTTP/1.1 4", 10) == 0);
    mr_assert((err == MR_OK) == (why.text[0] == 0));
    mr_assert(err != MR_OK || ws_head_may_begin(bytes));
}

/* The payload of a stream that arrives in pieces of at most `piece_max`, in place. */
static size_t frames_read(struct ws_frames *frames, uint8_t *at, size_t len, size_t piece_max)
{
    struct ws_reader *spare = NULL;
    struct mr_rng rng;
    size_t got = 0;

    *frames = (struct ws_frames){.frame_max = 300};
    mr_rng_seed(&rng, len);
    for (size_t taken = 0; taken < len;) {
        size_t piece = 1 + mr_rng_below(&rng, piece_max);
        piece = piece < len - taken ? piece : len - taken;
        size_t some = ws_frames_read(frames, &spare, at + taken, piece);
        mr_assert(some <= piece && frames->control_len <= WS_CONTROL_MAX);
        memmove(at + got, at + taken, some);
        got += some;
        taken += piece;
    }
    ws_reader_free(frames->reader);
    frames->reader = NULL;
    ws_reader_free(spare);
    return got;
}

static void fuzz_frames(struct mr_span bytes, size_t piece_max)
{
    struct ws_frames whole;
    struct ws_frames cut;
    uint8_t *a = malloc(bytes.len + 1);
    uint8_t *b = malloc(bytes.len + 1);

    mr_assert(a != NULL && b != NULL);
    memcpy(a, bytes.at, bytes.len);
    memcpy(b, bytes.at, bytes.len);
    size_t a_len = frames_read(&whole, a, bytes.len, bytes.len);
    size_t b_len = frames_read(&cut, b, bytes.len, piece_max);
    mr_assert(a_len == b_len && memcmp(a, b, a_len) == 0);
    mr_assert(whole.ended == cut.ended && whole.close_code == cut.close_code);
    mr_assert(whole.control_len == cut.control_len &&
              memcmp(whole.control, cut.control, whole.control_len) == 0);
    ws_frames_close(&whole, WS_CLOSE_NORMAL);
    mr_assert(whole.control_len == 4);
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct mr_span bytes = mr_span_make(data + 1, size - 1);
    switch (data[0] % 3) {
    case WHAT_PROXY:
        fuzz_proxy(bytes);
        break;
    case WHAT_UPGRADE:
        fuzz_upgrade(bytes);
        break;
    default:
        fuzz_frames(bytes, 1 + data[0] / 3);
    }
    return 0;
}
