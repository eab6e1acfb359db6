/* ws_upgrade.c - see ws_upgrade_internal.h for the contract.
 *
 * DESIGN
 *
 * The head is read line by line into the few fields that count; whatever else browsers and
 * proxies add is passed over, but must be well-formed.  A field that may stand once is
 * refused when it stands twice: two readers of one request must not understand it
 * differently.
 */
#include "net/ws_upgrade_internal.h"

#include "base/text.h"

#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

enum {
    KEY_CHARS = 24, /* 16 bytes in base64 */
    SHA1_BYTES = 20,
    ACCEPT_CHARS = 28,
};

/* RFC 6455 section 1.3. */
static const char accept_guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static const char method[] = "GET ";

/* What of a request counts. */
struct request {
    struct mr_span target;
    struct mr_span key;
    struct mr_span version;
    struct mr_span origin;
    const char *protocol; /* the one that we shall speak; NULL: none of those offered */
    bool host;
    bool upgrade_websocket;
    bool connection_upgrade;
    bool has_body;
};

/* ---- small words of HTTP ---- */

static bool is_token(struct mr_span span)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < span.len; i++) {
        uint8_t c = span.at[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == 0 || strchr(others, c) == NULL)) {
            return false;
        }
    }
    return span.len != 0;
}

static bool has_controls(struct mr_span span)
{
    for (size_t i = 0; i < span.len; i++) {
        if ((span.at[i] < 0x20 && span.at[i] != '\t') || span.at[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static struct mr_span trim(struct mr_span span)
{
    while (span.len != 0 && (span.at[0] == ' ' || span.at[0] == '\t')) {
        span.at += 1;
        span.len -= 1;
    }
    while (span.len != 0 && (span.at[span.len - 1] == ' ' || span.at[span.len - 1] == '\t')) {
        span.len -= 1;
    }
    return span;
}

static bool is_word(struct mr_span span, const char *word)
{
    return span.len == strlen(word) && strncasecmp((const char *)span.at, word, span.len) == 0;
}

/* Is `word` one of a list with commas? */
static bool list_has(struct mr_span list, const char *word)
{
    while (list.at != NULL) {
        if (is_word(trim(mr_span_split(&list, ',')), word)) {
            return true;
        }
    }
    return false;
}

/* ---- the request ---- */

static enum mr_err bad(struct mr_error *why, const char *what)
{
    return mr_error_set(why, MR_ERR_REJECT, "no WebSocket handshake: %s", what);
}

/* The next line, without its CR LF.  False: there is a bare CR or LF. */
static bool line_next(struct mr_span *rest, struct mr_span *line)
{
    *line = mr_span_split(rest, '\n');
    if (line->len == 0 || line->at[line->len - 1] != '\r') {
        return false;
    }
    line->len -= 1;
    return memchr(line->at, '\r', line->len) == NULL;
}

static enum mr_err take_request_line(struct request *request, struct mr_span line,
                                     struct mr_error *why)
{
    struct mr_span words = line;
    struct mr_span verb = mr_span_split(&words, ' ');
    struct mr_span target = mr_span_split(&words, ' ');

    if (!mr_span_is(verb, "GET")) {
        return bad(why, "the method is not GET");
    }
    if (words.at == NULL || !mr_span_is(words, "HTTP/1.1")) {
        return bad(why, "the request is not HTTP/1.1");
    }
    if (target.len == 0 || target.at[0] != '/' || has_controls(target)) {
        return bad(why, "the request has no path");
    }
    request->target = mr_span_split(&target, '?');
    return MR_OK;
}

static enum mr_err take_once(struct mr_span *field, struct mr_span value, struct mr_error *why,
                             const char *twice)
{
    if (field->at != NULL) {
        return bad(why, twice);
    }
    *field = value;
    return MR_OK;
}

/* Our preference is the newer name, whatever their order. */
static void take_protocols(struct request *request, struct mr_span list)
{
    while (list.at != NULL) {
        struct mr_span one = trim(mr_span_split(&list, ','));
        if (mr_span_is(one, "mqtt")) {
            request->protocol = "mqtt";
        } else if (mr_span_is(one, "mqttv3.1") && request->protocol == NULL) {
            request->protocol = "mqttv3.1";
        }
    }
}

static enum mr_err take_field(struct request *request, struct mr_span line, struct mr_error *why)
{
    struct mr_span value = line;
    struct mr_span name = mr_span_split(&value, ':');

    if (value.at == NULL || !is_token(name) || has_controls(value)) {
        return bad(why, "a header line is not `name: value`");
    }
    value = trim(value);
    if (is_word(name, "host")) {
        if (request->host) {
            return bad(why, "two Host lines");
        }
        request->host = true;
    } else if (is_word(name, "upgrade")) {
        request->upgrade_websocket = request->upgrade_websocket || list_has(value, "websocket");
    } else if (is_word(name, "connection")) {
        request->connection_upgrade = request->connection_upgrade || list_has(value, "upgrade");
    } else if (is_word(name, "sec-websocket-key")) {
        return take_once(&request->key, value, why, "two Sec-WebSocket-Key lines");
    } else if (is_word(name, "sec-websocket-version")) {
        return take_once(&request->version, value, why, "two Sec-WebSocket-Version lines");
    } else if (is_word(name, "origin")) {
        return take_once(&request->origin, value, why, "two Origin lines");
    } else if (is_word(name, "sec-websocket-protocol")) {
        take_protocols(request, value);
    } else if (is_word(name, "transfer-encoding") ||
               (is_word(name, "content-length") && !mr_span_is(value, "0"))) {
        request->has_body = true;
    }
    return MR_OK;
}

static enum mr_err request_read(struct request *request, struct mr_span head, struct mr_error *why)
{
    struct mr_span line;

    if (!line_next(&head, &line)) {
        return bad(why, "a line does not end with CR LF");
    }
    enum mr_err err = take_request_line(request, line, why);
    while (err == MR_OK) {
        if (!line_next(&head, &line)) {
            return bad(why, "a line does not end with CR LF");
        }
        if (line.len == 0) {
            return MR_OK;
        }
        err = take_field(request, line, why);
    }
    return err;
}

/* ---- the answer ---- */

static enum mr_err refuse(struct ws_answer *answer, const char *status, const char *extra,
                          const struct mr_error *why)
{
    struct mr_text text = mr_text_over(answer->text, sizeof(answer->text));

    mr_text_fmt(&text,
                "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n%s\r\n%s\n",
                status, strlen(why->text) + 1, extra, why->text);
    answer->len = text.len;
    return MR_ERR_REJECT;
}

/* Sixteen bytes in base64, which is 22 characters and "==". */
static bool key_is_valid(struct mr_span key)
{
    uint8_t bytes[KEY_CHARS];

    return key.len == KEY_CHARS && key.at[KEY_CHARS - 1] == '=' && key.at[KEY_CHARS - 2] == '=' &&
           memchr(key.at, '=', key.len - 2) == NULL &&
           EVP_DecodeBlock(bytes, key.at, KEY_CHARS) == 18;
}

static void accept_of(struct mr_span key, char into[ACCEPT_CHARS + 1])
{
    uint8_t text[KEY_CHARS + sizeof(accept_guid) - 1];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    memcpy(text, key.at, KEY_CHARS);
    memcpy(text + KEY_CHARS, accept_guid, sizeof(accept_guid) - 1);
    int done = EVP_Digest(text, sizeof(text), digest, &len, EVP_sha1(), NULL);
    mr_assert(done == 1 && len == SHA1_BYTES);
    (void)EVP_EncodeBlock((unsigned char *)into, digest, SHA1_BYTES);
}

static bool origin_is_allowed(const struct ws_upgrade *rules, struct mr_span origin)
{
    for (size_t i = 0; i < rules->origin_count; i++) {
        if (is_word(origin, rules->origins[i])) {
            return true;
        }
    }
    return rules->origin_count == 0 || origin.at == NULL;
}

/* What is wrong with a request that could be read; the status, or NULL: nothing. */
static const char *fault_of(const struct ws_upgrade *rules, const struct request *request,
                            struct mr_error *why)
{
    if (!mr_span_is(request->target, rules->path)) {
        (void)mr_error_set(why, MR_ERR_REJECT,
                           "nothing is served at the path that was asked for; MQTT is at %s",
                           rules->path);
        return "404 Not Found";
    }
    if (!request->host) {
        (void)bad(why, "no Host line");
        return "400 Bad Request";
    }
    if (request->has_body) {
        (void)bad(why, "a request with a body");
        return "400 Bad Request";
    }
    if (!request->upgrade_websocket || !request->connection_upgrade) {
        (void)bad(why, "`Upgrade: websocket` and `Connection: Upgrade` are needed; this port "
                       "serves MQTT over WebSocket, nothing else");
        return "400 Bad Request";
    }
    if (!mr_span_is(request->version, "13")) {
        (void)bad(why, "Sec-WebSocket-Version must be 13");
        return "426 Upgrade Required";
    }
    if (!key_is_valid(request->key)) {
        (void)bad(why, "Sec-WebSocket-Key must be 16 bytes in base64");
        return "400 Bad Request";
    }
    if (!origin_is_allowed(rules, request->origin)) {
        (void)mr_error_set(why, MR_ERR_REJECT,
                           "the page's Origin is not among the listener's `websocket_origins`");
        return "403 Forbidden";
    }
    if (request->protocol == NULL) {
        (void)bad(why, "the client must offer the subprotocol `mqtt` (or `mqttv3.1`) in "
                       "Sec-WebSocket-Protocol");
        return "400 Bad Request";
    }
    return NULL;
}

enum mr_err ws_upgrade(const struct ws_upgrade *rules, struct mr_span head,
                       struct ws_answer *answer, struct mr_error *why)
{
    struct request request = {.protocol = NULL};
    char accept[ACCEPT_CHARS + 1];

    if (request_read(&request, head, why) != MR_OK) {
        return refuse(answer, "400 Bad Request", "", why);
    }
    const char *status = fault_of(rules, &request, why);
    if (status != NULL) {
        bool version = strncmp(status, "426", 3) == 0;
        return refuse(answer, status, version ? "Sec-WebSocket-Version: 13\r\n" : "", why);
    }
    accept_of(request.key, accept);
    struct mr_text text = mr_text_over(answer->text, sizeof(answer->text));
    mr_text_fmt(&text,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                accept, request.protocol);
    answer->len = text.len;
    return MR_OK;
}

bool ws_head_may_begin(struct mr_span bytes)
{
    size_t len = bytes.len < sizeof(method) - 1 ? bytes.len : sizeof(method) - 1;

    return len == 0 || memcmp(bytes.at, method, len) == 0;
}

enum mr_err ws_upgrade_refuse_head(struct mr_span bytes, struct ws_answer *answer,
                                   struct mr_error *why)
{
    uint8_t first = bytes.len == 0 ? 0 : bytes.at[0];

    if (ws_head_may_begin(bytes)) {
        (void)mr_error_set(why, MR_ERR_REJECT, "no WebSocket handshake: its head exceeds %d bytes",
                           WS_HEAD_MAX);
        return refuse(answer, "431 Request Header Fields Too Large", "", why);
    }
    if (first == 0x16 || first == 0x10) {
        answer->len = 0; /* whoever does not speak HTTP would not understand */
        return mr_error_set(why, MR_ERR_REJECT,
                            "it speaks %s and this listener WebSocket%s; give the client the port "
                            "of a listener that fits",
                            first == 0x16 ? "TLS" : "plain MQTT",
                            first == 0x16 ? " without TLS" : "");
    }
    (void)bad(why, "it does not begin with GET");
    return refuse(answer, "400 Bad Request", "", why);
}

size_t ws_head_len(struct mr_span bytes)
{
    const uint8_t *hit = bytes.len == 0 ? NULL : memmem(bytes.at, bytes.len, "\r\n\r\n", 4);

    return hit == NULL ? 0 : (size_t)(hit - bytes.at) + 4;
}
