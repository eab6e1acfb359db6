/* log.c - see log.h for the contract.
 *
 * DESIGN
 *
 * A line is put together in a stack buffer and handed over in one call, so
 * lines of different threads never mix and no lock is needed.  What a message
 * carries may come from the network (a client id, a broker's error text):
 * quotes, control characters and bytes that are no UTF-8 are escaped, so one
 * message is always one line and can play no tricks on a terminal.
 */
#include "base/log.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    MESSAGE_MAX = 1024,                  /* the longest mr_error text and some context */
    LOG_LINE_MAX = 4 * MESSAGE_MAX + 128 /* if every byte is escaped as \xNN */
};

static _Atomic int log_level = MR_LOG_INFO;
static _Atomic bool log_journald;
static int64_t (*_Atomic log_clock)(void);
static void (*_Atomic log_writer)(const char *line, size_t len);

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const unsigned level_priorities[] = {7, 6, 4, 3}; /* syslog's */

void mr_log_set_level(enum mr_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

void mr_log_set_clock(int64_t (*unix_us)(void))
{
    atomic_store(&log_clock, unix_us);
}

void mr_log_set_journald(bool on)
{
    atomic_store_explicit(&log_journald, on, memory_order_relaxed);
}

void mr_log_set_writer(void (*write_line)(const char *line, size_t len))
{
    atomic_store(&log_writer, write_line);
}

static void line_escape(struct mr_text *line, struct mr_span message)
{
    bool utf8 = mr_utf8_valid(message);

    for (size_t i = 0; i < message.len; i++) {
        uint8_t c = message.at[i];
        /* U+0080 to U+009F are control characters too: c2 80 to c2 9f. */
        bool c1 = utf8 && c == 0xc2 && message.at[i + 1] < 0xa0;

        if (c == '"' || c == '\\') {
            mr_text_fmt(line, "\\%c", c);
        } else if (c == '\n') {
            mr_text_add(line, "\\n");
        } else if (c == '\t') {
            mr_text_add(line, "\\t");
        } else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8)) {
            mr_text_fmt(line, "\\x%02x", c);
        } else if (c1) {
            mr_text_fmt(line, "\\x%02x\\x%02x", c, message.at[i + 1]);
            i += 1;
        } else {
            mr_text_bytes(line, &c, 1);
        }
    }
}

/* "2026-11-23T17:56:01.123456Z" with its last three digits cut off. */
static void line_time(struct mr_text *line, int64_t unix_us)
{
    char stamp[48];
    struct mr_text text = mr_text_over(stamp, sizeof(stamp));

    mr_text_time_us(&text, unix_us);
    mr_text_add(line, "ts=");
    mr_text_bytes(line, stamp, text.len - 4);
    mr_text_add(line, "Z ");
}

/* vsnprintf cuts between bytes; take off what is left of a cut character. */
static size_t whole_chars(const char *message, size_t len)
{
    while (len > 0 && ((unsigned char)message[len - 1] & 0xc0) == 0x80) {
        len -= 1;
    }
    return len > 0 && (unsigned char)message[len - 1] >= 0xc0 ? len - 1 : len;
}

void mr_log(enum mr_log_level level, const char *component, const char *fmt, ...)
{
    if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed)) {
        return;
    }

    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    int wanted = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    size_t message_len = wanted < 0 ? 0 : (size_t)wanted;
    bool cut = message_len >= sizeof(message);
    if (cut) {
        message_len = whole_chars(message, sizeof(message) - 1);
    }

    char buffer[LOG_LINE_MAX];
    struct mr_text line = mr_text_over(buffer, sizeof(buffer));
    int64_t (*clock)(void) = atomic_load(&log_clock);
    if (atomic_load_explicit(&log_journald, memory_order_relaxed)) {
        mr_text_fmt(&line, "<%u>", level_priorities[level]);
    } else if (clock != NULL) {
        line_time(&line, clock());
    }
    mr_text_fmt(&line, "level=%s component=%.40s msg=\"", level_names[level], component);
    line_escape(&line, mr_span_make(message, message_len));
    mr_text_add(&line, cut ? "…\"\n" : "\"\n");
    mr_assert(!line.truncated);

    void (*write_line)(const char *, size_t) = atomic_load(&log_writer);
    if (write_line != NULL) {
        write_line(buffer, line.len);
    } else {
        /* stderr is unbuffered: one fwrite is one write.  If even that fails
         * there is no one left to tell.
         */
        (void)!fwrite(buffer, 1, line.len, stderr);
    }
}

bool mr_log_allowed(struct mr_log_limit *limit, int64_t interval_us, uint64_t *suppressed)
{
    int64_t (*clock)(void) = atomic_load(&log_clock);
    int64_t now_us = clock == NULL ? 0 : clock();
    int64_t last_us = atomic_load(&limit->last_us);

    /* The wall clock may jump: a last time in the future counts as over.
     * Without a clock nothing is held back.
     */
    bool over =
        clock == NULL || last_us == 0 || now_us < last_us || now_us - last_us >= interval_us;
    if (!over || !atomic_compare_exchange_strong(&limit->last_us, &last_us, now_us)) {
        atomic_fetch_add(&limit->held_back, 1); /* too early, or another thread was first */
        return false;
    }
    *suppressed = atomic_exchange(&limit->held_back, 0);
    return true;
}
