/* peer_name.c - see peer_name.h for the contract. */
#include "broker/peer_name.h"

#include "base/text.h"

/* The eight groups of a v6 address; false: it is none. */
static bool groups_parse(const char *text, size_t len, uint32_t groups[8])
{
    uint32_t found[8] = {0};
    size_t count = 0;
    size_t gap = 8; /* before which of `found` the "::" stands */

    for (size_t i = 0; i < len && count < 8;) {
        if (text[i] == ':' && i + 1 < len && text[i + 1] == ':') {
            gap = count;
            i += 2;
            continue;
        }
        i += text[i] == ':';
        size_t digits = 0;
        for (; i < len && digits < 4 && text[i] != ':'; i++, digits++) {
            char c = text[i];
            uint32_t value = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                             : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                                                    : 16;
            if (value > 15) {
                return false;
            }
            found[count] = found[count] << 4 | value;
        }
        if (digits == 0) {
            break;
        }
        count += 1;
    }
    for (size_t i = 0; i < 8; i++) {
        size_t behind = count - (gap < count ? gap : count);
        groups[i] = i < gap ? found[i] : i + behind >= 8 ? found[i + count - 8] : 0;
    }
    return count == 8 || gap < 8;
}

struct mr_span mr_peer_name(const char *peer, char name[MR_PEER_NAME_BYTES])
{
    struct mr_text text = mr_text_over(name, MR_PEER_NAME_BYTES);
    const char *end = strchr(peer, ']');
    uint32_t groups[8];

    if (peer[0] == '[' && end != NULL) {
        const char *zone = memchr(peer, '%', (size_t)(end - peer));
        const char *last = zone != NULL ? zone : end;
        const char *mapped = strrchr(peer, '.') != NULL ? strstr(peer, "ffff:") : NULL;
        if (mapped != NULL && mapped < last) { /* v4 on a socket of both */
            mr_text_bytes(&text, mapped + 5, (size_t)(last - mapped) - 5);
        } else if (strncmp(peer, "[::1]", 5) == 0) {
            mr_text_add(&text, "::1");
        } else if (groups_parse(peer + 1, (size_t)(last - peer) - 1, groups)) {
            mr_text_fmt(&text, "%x:%x:%x:%x::/64", groups[0], groups[1], groups[2], groups[3]);
        }
    } else if (peer[0] >= '0' && peer[0] <= '9') {
        mr_text_bytes(&text, peer, strcspn(peer, ":"));
    }
    return mr_span_make(name, text.len);
}

bool mr_peer_name_is_loopback(struct mr_span name)
{
    return (name.len >= 4 && memcmp(name.at, "127.", 4) == 0) ||
           (name.len == 3 && memcmp(name.at, "::1", 3) == 0);
}
