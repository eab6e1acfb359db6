/* cli_out.c - what goes to stdout.
 *
 * The first failed write is remembered and ends all further output; commands see
 * `false` and stop, mr_cli_main() turns it into the exit code.
 */
#include "app/cli/cli_internal.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>

static bool out_checked(struct mr_cli *cli, bool ok)
{
    if (!ok && cli->out_error == 0) {
        cli->out_error = errno == 0 ? EIO : errno;
    }
    return cli->out_error == 0;
}

bool mr_cli_out(struct mr_cli *cli, const char *fmt, ...)
{
    va_list args;

    if (cli->out_error != 0) {
        return false;
    }
    va_start(args, fmt);
    int written = vfprintf(stdout, fmt, args);
    va_end(args);
    return out_checked(cli, written >= 0);
}

bool mr_cli_out_bytes(struct mr_cli *cli, const void *at, size_t len)
{
    if (cli->out_error != 0 || len == 0) {
        return cli->out_error == 0;
    }
    return out_checked(cli, fwrite(at, 1, len, stdout) == len);
}

bool mr_cli_flush(struct mr_cli *cli)
{
    return cli->out_error == 0 && out_checked(cli, fflush(stdout) == 0);
}

/* Bytes of the UTF-8 character at `at`, 0 if there is none.  NUL is one here. */
static size_t character_len(const uint8_t *at, size_t left)
{
    if (at[0] < 0x80) {
        return 1;
    }
    for (size_t len = 2; len <= 4 && len <= left; len++) {
        if (mr_utf8_valid(mr_span_make(at, len))) {
            return len;
        }
    }
    return 0;
}

/* A character that cannot stand in a JSON string as it is; true: written. */
static bool json_escape(struct mr_cli *cli, uint8_t c)
{
    if (c == '"' || c == '\\') {
        return mr_cli_out(cli, "\\%c", c);
    }
    if (c == '\n') {
        return mr_cli_out(cli, "\\n");
    }
    return mr_cli_out(cli, "\\u%04x", c);
}

bool mr_cli_out_json(struct mr_cli *cli, const void *at, size_t len)
{
    const uint8_t *text = at;
    size_t from = 0; /* first byte not yet written */

    (void)mr_cli_out_bytes(cli, "\"", 1);
    for (size_t i = 0; i < len;) {
        size_t size = character_len(text + i, len - i);
        bool plain = size > 0 && text[i] >= 0x20 && text[i] != '"' && text[i] != '\\';
        if (plain) {
            i += size;
            continue;
        }
        (void)mr_cli_out_bytes(cli, text + from, i - from);
        if (size == 0) {
            (void)mr_cli_out(cli, "\\ufffd");
        } else {
            (void)json_escape(cli, text[i]);
        }
        i += 1;
        from = i;
    }
    (void)mr_cli_out_bytes(cli, text + from, len - from);
    return mr_cli_out_bytes(cli, "\"", 1);
}
