/* base64.c - see base64.h for the contract. */
#include "auth/base64.h"

/* The six bits of a character; -1: it is none. */
static int bits_of(uint8_t c, enum mr_base64_kind kind)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == (kind == MR_BASE64_URL ? '-' : '+')) {
        return 62;
    }
    return c == (kind == MR_BASE64_URL ? '_' : '/') ? 63 : -1;
}

bool mr_base64_take(struct mr_span text, enum mr_base64_kind kind, uint8_t *into, size_t size,
                    size_t *out_len)
{
    uint32_t gathered = 0;
    unsigned bits = 0;
    size_t len = 0;

    *out_len = 0;
    bool padded = kind == MR_BASE64_PLAIN && text.len % 4 == 0;
    for (int i = 0; padded && i < 2 && text.len != 0 && text.at[text.len - 1] == '='; i++) {
        text.len -= 1;
    }
    if (text.len % 4 == 1 || text.len / 4 * 3 + (text.len % 4 * 3) / 4 > size) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        int six = bits_of(text.at[i], kind);
        if (six < 0) {
            return false;
        }
        gathered = gathered << 6 | (uint32_t)six;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            into[len++] = (uint8_t)(gathered >> bits);
        }
    }
    *out_len = len;
    return true;
}
