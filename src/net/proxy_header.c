/* proxy_header.c - see proxy_header_internal.h for the contract. */
#include "net/proxy_header_internal.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/text.h"
#include "os/loop.h"

enum {
    V1_LINE_MAX = 107, /* with its CR LF */
    V2_HEAD = 16,
    V2_LOCAL = 0x20,
    V2_PROXY = 0x21,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
    V2_UNIX = 0x31,
    TLV_CRC32C = 0x03,
    TLV_SSL = 0x20,
    TLV_SSL_CN = 0x22,
    SSL_CLIENT_CERT = 0x02 | 0x04, /* on this connection, or on the session it resumes */
};

static const uint8_t v1_begin[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_begin[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                   0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static enum mr_err refuse(const char **what, const char *why)
{
    *what = why;
    return MR_ERR_REJECT;
}

static void peer_set(struct proxy_header *out, const uint8_t *address, size_t len, uint16_t port)
{
    struct mr_address text;

    mr_address_of(address, len, port, &text);
    size_t chars = strnlen(text.text, sizeof(out->peer) - 1);
    memcpy(out->peer, text.text, chars);
    out->peer[chars] = 0;
}

/* ---- version 1 ---- */

static bool port_read(struct mr_span text, uint16_t *port)
{
    uint64_t number = 0;

    if (text.len == 0 || text.len > 5 || (text.at[0] == '0' && text.len > 1) ||
        mr_parse_u64(text, UINT16_MAX, &number) != MR_OK) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

/* "TCP4 source destination port port". */
static bool v1_addresses(struct mr_span line, struct proxy_header *out)
{
    struct mr_span family = mr_span_split(&line, ' ');
    struct mr_span source = mr_span_split(&line, ' ');
    struct mr_span destination = mr_span_split(&line, ' ');
    struct mr_span source_port = mr_span_split(&line, ' ');
    size_t len = mr_span_is(family, "TCP4") ? 4 : 16;
    uint8_t from[16];
    uint8_t to[16];
    uint16_t port = 0;
    uint16_t to_port = 0;

    if ((len == 16 && !mr_span_is(family, "TCP6")) || !mr_address_parse(source, len, from) ||
        !mr_address_parse(destination, len, to) || !port_read(source_port, &port) ||
        !port_read(line, &to_port)) {
        return false;
    }
    peer_set(out, from, len, port);
    return true;
}

static enum mr_err v1_read(struct mr_span bytes, struct proxy_header *out, const char **what)
{
    size_t looked = bytes.len < V1_LINE_MAX ? bytes.len : V1_LINE_MAX;
    const uint8_t *end = memchr(bytes.at, '\n', looked);

    if (end == NULL) {
        return looked == V1_LINE_MAX ? refuse(what, "its line is longer than 107 bytes")
                                     : MR_ERR_AGAIN;
    }
    out->len = (size_t)(end - bytes.at) + 1;
    struct mr_span line =
        mr_span_make(bytes.at + sizeof(v1_begin), out->len - 1 - sizeof(v1_begin));
    if (line.len == 0 || line.at[line.len - 1] != '\r') {
        return refuse(what, "its line does not end with CR LF");
    }
    line.len -= 1;
    if (line.len >= 7 && memcmp(line.at, "UNKNOWN", 7) == 0 &&
        (line.len == 7 || line.at[7] == ' ')) {
        return MR_OK; /* whatever follows is to be ignored */
    }
    return v1_addresses(line, out) ? MR_OK : refuse(what, "its addresses cannot be read");
}

/* ---- version 2 ---- */

/* The next type-length-value of `rest`.  False: it does not fit. */
static bool tlv_next(struct mr_span *rest, uint8_t *type, struct mr_span *value)
{
    if (rest->len < 3) {
        return false;
    }
    *type = rest->at[0];
    value->len = mr_get_be16(rest->at + 1);
    value->at = rest->at + 3;
    if (value->len > rest->len - 3) {
        return false;
    }
    rest->at += 3 + value->len;
    rest->len -= 3 + value->len;
    return true;
}

/* The certificate's common name, if the proxy says that it has verified one. */
static bool ssl_read(struct mr_span ssl, struct proxy_header *out)
{
    if (ssl.len < 5) {
        return false;
    }
    bool verified = (ssl.at[0] & SSL_CLIENT_CERT) != 0 && mr_get_be32(ssl.at + 1) == 0;
    struct mr_span rest = mr_span_make(ssl.at + 5, ssl.len - 5);
    while (rest.len != 0) {
        struct mr_span value;
        uint8_t type = 0;
        if (!tlv_next(&rest, &type, &value)) {
            return false;
        }
        if (type == TLV_SSL_CN && verified && value.len != 0 && value.len < sizeof(out->identity) &&
            memchr(value.at, 0, value.len) == NULL && mr_utf8_valid(value)) {
            memcpy(out->identity, value.at, value.len);
            out->identity[value.len] = 0;
        }
    }
    return true;
}

/* The checksum is over the whole header with zeros in its own place. */
static bool checksum_is_right(struct mr_span header, struct mr_span field)
{
    static const uint8_t zeros[4];

    if (field.len != sizeof(zeros)) {
        return false;
    }
    size_t before = (size_t)(field.at - header.at);
    uint32_t crc = mr_crc32c(0, header.at, before);
    crc = mr_crc32c(crc, zeros, sizeof(zeros));
    crc = mr_crc32c(crc, field.at + field.len, header.len - before - field.len);
    return crc == mr_get_be32(field.at);
}

static enum mr_err v2_tlvs(struct mr_span header, struct mr_span rest, struct proxy_header *out,
                           const char **what)
{
    while (rest.len != 0) {
        struct mr_span value;
        uint8_t type = 0;
        if (!tlv_next(&rest, &type, &value) || (type == TLV_SSL && !ssl_read(value, out))) {
            return refuse(what, "one of its values does not fit into it");
        }
        if (type == TLV_CRC32C && !checksum_is_right(header, value)) {
            return refuse(what, "its checksum is wrong");
        }
    }
    return MR_OK;
}

static enum mr_err v2_read(struct mr_span bytes, struct proxy_header *out, const char **what)
{
    if (bytes.len < V2_HEAD) {
        return MR_ERR_AGAIN;
    }
    uint8_t command = bytes.at[12];
    uint8_t family = bytes.at[13];
    size_t len = mr_get_be16(bytes.at + 14);
    if (command != V2_LOCAL && command != V2_PROXY) {
        return refuse(what, "its version or command is unknown");
    }
    if (V2_HEAD + len > PROXY_HEADER_MAX) {
        return refuse(what, "it is longer than 4 KiB");
    }
    if (bytes.len < V2_HEAD + len) {
        return MR_ERR_AGAIN;
    }
    out->len = V2_HEAD + len;
    if (command == V2_LOCAL || family == 0) {
        return MR_OK; /* a health check, or a family the proxy does not know: as if without */
    }
    size_t addresses = family == V2_TCP4 ? 12 : family == V2_TCP6 ? 36 : 216;
    if (family != V2_TCP4 && family != V2_TCP6 && family != V2_UNIX) {
        return refuse(what, "its family of addresses is no stream's");
    }
    if (len < addresses) {
        return refuse(what, "its addresses do not fit into it");
    }
    const uint8_t *at = bytes.at + V2_HEAD;
    if (family == V2_TCP4) {
        peer_set(out, at, 4, mr_get_be16(at + 8));
    } else if (family == V2_TCP6) {
        peer_set(out, at, 16, mr_get_be16(at + 32));
    }
    return v2_tlvs(mr_span_make(bytes.at, out->len), mr_span_make(at + addresses, len - addresses),
                   out, what);
}

static bool begins_with(struct mr_span bytes, const uint8_t *begin, size_t len)
{
    len = bytes.len < len ? bytes.len : len;
    return memcmp(bytes.at, begin, len) == 0;
}

enum mr_err proxy_header_read(struct mr_span bytes, struct proxy_header *out, const char **what)
{
    *out = (struct proxy_header){.len = 0};
    if (bytes.len == 0) {
        return MR_ERR_AGAIN;
    }
    if (begins_with(bytes, v2_begin, sizeof(v2_begin))) {
        return v2_read(bytes, out, what);
    }
    if (begins_with(bytes, v1_begin, sizeof(v1_begin))) {
        return bytes.len < sizeof(v1_begin) ? MR_ERR_AGAIN : v1_read(bytes, out, what);
    }
    return refuse(what, "there is none");
}
