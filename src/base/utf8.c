/* utf8.c - is it well-formed UTF-8?  (declared in text.h)
 *
 * DESIGN
 *
 * Topic names are checked on every PUBLISH and are nearly always ASCII, so
 * eight bytes at a time are accepted while none has its top bit set and none
 * is zero.  Only when a word fails does the byte-wise part look at one
 * character, after which the fast part goes on.
 *
 * What a lead byte allows its second byte to be says everything about
 * overlong forms, surrogates and the end at U+10FFFF (Unicode, table 3-7).
 */
#include "base/bytes.h"
#include "base/text.h"

/* Bytes of the well-formed character at `at`, 0 if there is none. */
static size_t utf8_char_len(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    uint8_t second_min = 0x80;
    uint8_t second_max = 0xbf;
    size_t len = 0;

    if (lead < 0x80) {
        return lead == 0 ? 0 : 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) { /* c0 and c1 would be overlong ASCII */
        len = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        len = 3;
        second_min = lead == 0xe0 ? 0xa0 : 0x80; /* below: overlong */
        second_max = lead == 0xed ? 0x9f : 0xbf; /* above: surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        second_min = lead == 0xf0 ? 0x90 : 0x80; /* below: overlong */
        second_max = lead == 0xf4 ? 0x8f : 0xbf; /* above: beyond U+10FFFF */
    } else {
        return 0;
    }

    if (left < len || at[1] < second_min || at[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool mr_utf8_valid(struct mr_span span)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    const uint8_t *at = span.at;
    size_t left = span.len;

    while (left > 0) {
        if (left >= 8) {
            uint64_t word = mr_get_u64(at);
            /* Without top bits in `word`, a top bit after the subtraction can
             * only come from a zero byte's borrow.
             */
            if (((word | (word - ones)) & tops) == 0) {
                at += 8;
                left -= 8;
                continue;
            }
        }
        size_t len = utf8_char_len(at, left);
        if (len == 0) {
            return false;
        }
        at += len;
        left -= len;
    }
    return true;
}
