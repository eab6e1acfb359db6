/* ask.c - see ask.h.
 *
 * One request per connection, HTTP/1.1 with Connection: close, so the answer ends where
 * the stream does.
 */
#include "app/cli/ask.h"

#include <stdio.h>

#include "app/cli/walk.h"
#include "codec/json.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/loop.h"

enum {
    PATH_BYTES = 4096,
    ANNOUNCED_BYTES = 256,
    REQUEST_BYTES = 16 << 10,
    ANSWER_BYTES_MAX = 4 << 20,
    PIECE_BYTES = 64 << 10,
};

static const int64_t patience_ns = INT64_C(30000000000);

struct talk {
    char address[ANNOUNCED_BYTES];
    char identity[ANNOUNCED_BYTES];
    const char *data;
    struct mr_loop *loop;
    int fd;
    bool asked; /* the request has left */
    char *answer;
    size_t len;
};

/* ---- where it is ---- */

/* False: no gateway has announced itself there. */
static bool announced_read(struct talk *talk)
{
    char path[PATH_BYTES];
    char line[ANNOUNCED_BYTES];
    struct mr_text text = mr_text_over(path, sizeof(path));
    struct mr_file file;
    size_t got = 0;

    mr_text_fmt(&text, "%s/admin.address", talk->data);
    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return false;
    }
    enum mr_err err = mr_file_read(&file, line, sizeof(line), 0, &got);
    mr_file_close(&file);
    struct mr_span rest = mr_span_make(line, got);
    rest = mr_span_split(&rest, '\n');
    struct mr_span address = mr_span_split(&rest, ' ');
    if (err != MR_OK || rest.len == 0) {
        return false;
    }
    text = mr_text_over(talk->address, sizeof(talk->address));
    mr_text_span(&text, address);
    text = mr_text_over(talk->identity, sizeof(talk->identity));
    mr_text_span(&text, rest);
    return true;
}

/* ---- HTTP ---- */

static bool talk_wait(struct talk *talk, uint32_t what, int64_t deadline_ns)
{
    struct mr_ready ready;
    int64_t left_ns = deadline_ns - mr_clock_mono_ns();

    mr_loop_change(talk->loop, talk->fd, what, 1);
    while (left_ns > 0) {
        if (mr_loop_wait(talk->loop, &ready, 1, left_ns, NULL, NULL) != 0) {
            return true;
        }
        left_ns = deadline_ns - mr_clock_mono_ns();
    }
    return false;
}

static bool talk_connect(struct talk *talk, int64_t deadline_ns)
{
    struct mr_error why;

    if (mr_loop_open(&talk->loop, &why) != MR_OK) {
        talk->loop = NULL;
        return false;
    }
    if (mr_socket_connect(talk->address, &talk->fd, &why) != MR_OK) {
        talk->fd = -1;
        return false;
    }
    return mr_loop_add(talk->loop, talk->fd, MR_READY_WRITE, 1) == MR_OK &&
           talk_wait(talk, MR_READY_WRITE, deadline_ns) &&
           mr_socket_connected(talk->fd, &why) == MR_OK;
}

static bool talk_send(struct talk *talk, const char *at, size_t len, int64_t deadline_ns)
{
    while (len > 0) {
        size_t sent = 0;
        if (mr_socket_write(talk->fd, at, len, &sent) != MR_OK ||
            (sent == 0 && !talk_wait(talk, MR_READY_WRITE, deadline_ns))) {
            return false;
        }
        at += sent;
        len -= sent;
    }
    return true;
}

/* To the end of the stream. */
static bool talk_receive(struct talk *talk, int64_t deadline_ns)
{
    for (;;) {
        size_t got = 0;
        talk->answer = mr_realloc(talk->answer, talk->len + PIECE_BYTES);
        enum mr_err err = mr_socket_read(talk->fd, talk->answer + talk->len, PIECE_BYTES, &got);
        if (err == MR_ERR_AGAIN) {
            if (!talk_wait(talk, MR_READY_READ, deadline_ns)) {
                return false;
            }
            continue;
        }
        if (err != MR_OK || got == 0) {
            return err == MR_OK;
        }
        talk->len += got;
        if (talk->len > ANSWER_BYTES_MAX) {
            return false;
        }
    }
}

static bool talk_exchange(struct talk *talk, const char *method, const char *target)
{
    char *request = mr_alloc(REQUEST_BYTES);
    struct mr_text text = mr_text_over(request, REQUEST_BYTES);
    int64_t deadline_ns = mr_clock_mono_ns() + patience_ns;

    mr_text_fmt(&text,
                "%s /api/v1/%s HTTP/1.1\r\nHost: %s\r\nX-Millrace: %s\r\nConnection: close\r\n"
                "Content-Length: 0\r\n\r\n",
                method, target, talk->address, talk->identity);
    mr_assert(!text.truncated);
    talk->asked =
        talk_connect(talk, deadline_ns) && talk_send(talk, request, text.len, deadline_ns);
    bool ok = talk->asked && talk_receive(talk, deadline_ns);
    mr_free(request);
    if (talk->fd >= 0) {
        mr_socket_close(talk->fd);
    }
    if (talk->loop != NULL) {
        mr_loop_close(talk->loop);
    }
    return ok;
}

/* Status and page of an answer; 0: it is not one of ours. */
static unsigned answer_parse(struct mr_span bytes, struct mr_span *json)
{
    static const char version[] = "HTTP/1.1 ";
    uint64_t status = 0;

    if (bytes.len < sizeof(version) + 3 || memcmp(bytes.at, version, sizeof(version) - 1) != 0 ||
        mr_parse_u64(mr_span_make(bytes.at + sizeof(version) - 1, 3), 999, &status) != MR_OK) {
        return 0;
    }
    for (size_t i = 0; i + 4 <= bytes.len; i++) {
        if (memcmp(bytes.at + i, "\r\n\r\n", 4) == 0) {
            *json = mr_span_make(bytes.at + i + 4, bytes.len - i - 4);
            return mr_json_valid(*json) ? (unsigned)status : 0;
        }
    }
    return 0;
}

/* ---- asking ---- */

static int fail_refused(struct mr_cli *cli, unsigned status, struct mr_span json)
{
    char buffer[1024];
    int code = MR_EXIT_DATA;

    if (status == 404) {
        code = MR_EXIT_NO_INPUT;
    } else if (status == 503) {
        code = MR_EXIT_TRY_AGAIN;
    } else if (status >= 500) {
        code = MR_EXIT_IO;
    }
    return mr_cli_fail(cli, code, "%s", mr_answer_text(json, "error", buffer, sizeof(buffer)));
}

int mr_ask_if_running(struct mr_cli *cli, const char *method, const char *target,
                      struct mr_answer *out, bool *running)
{
    struct talk talk = {.data = mr_cli_data_path(cli), .fd = -1};
    unsigned status = 0;

    *out = (struct mr_answer){0};
    *running = false;
    if (talk.data == NULL) {
        return MR_EXIT_CONFIG;
    }
    if (announced_read(&talk) && talk_exchange(&talk, method, target)) {
        status = answer_parse(mr_span_make(talk.answer, talk.len), &out->json);
    }
    if (status == 0 || status == 421) { /* nobody, or somebody else */
        mr_free(talk.answer);
        *out = (struct mr_answer){0};
        if (status == 0 && talk.asked && strcmp(method, "POST") == 0) {
            return mr_cli_fail(cli, MR_EXIT_TRY_AGAIN,
                               "%s was asked, and has not answered; it may do it yet, or be done: "
                               "look before you try again (if no gateway runs there any more, "
                               "remove %s/admin.address)",
                               talk.address, talk.data);
        }
        return MR_EXIT_OK;
    }
    *running = true;
    out->memory = talk.answer;
    if (status != 200) {
        int code = fail_refused(cli, status, out->json);
        uint64_t count = mr_answer_u64(out->json, "count");
        mr_answer_free(out);
        out->count = count;
        return code;
    }
    return MR_EXIT_OK;
}

int mr_ask(struct mr_cli *cli, const char *method, const char *target, struct mr_answer *out)
{
    bool running;
    int code = mr_ask_if_running(cli, method, target, out, &running);

    if (code == MR_EXIT_OK && !running) {
        code = mr_walk_may_look(cli, mr_cli_data_path(cli));
    }
    if (code == MR_EXIT_OK && !running) {
        return mr_cli_fail(cli, MR_EXIT_UNAVAILABLE,
                           "no gateway answers for the data folder %s; start it with `millrace "
                           "run`, name its folder with --data or its configuration with -c, and "
                           "leave `admin.enable` on",
                           mr_cli_data_path(cli));
    }
    return code;
}

void mr_answer_free(struct mr_answer *answer)
{
    mr_free(answer->memory);
    *answer = (struct mr_answer){0};
}

void mr_ask_escape(struct mr_text *target, struct mr_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            mr_text_bytes(target, &c, 1);
        } else {
            mr_text_fmt(target, "%%%02X", c);
        }
    }
}

const char *mr_answer_text(struct mr_span object, const char *name, char *buffer, size_t size)
{
    struct mr_text text = mr_text_over(buffer, size);

    mr_json_text(&text, mr_json_member(object, name));
    return buffer;
}

uint64_t mr_answer_u64(struct mr_span object, const char *name)
{
    uint64_t number = 0;

    return mr_json_u64(mr_json_member(object, name), &number) ? number : 0;
}
