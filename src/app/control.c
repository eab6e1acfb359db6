/* control.c - what a running gateway can be asked and told: /api/v1/...
 *
 * DESIGN
 *
 * One row per page.  A page that changes something answers to POST only; admin.h says
 * what else such a request must bring.  All of them answer JSON; what was refused is
 * {"error": "a sentence"}.
 *
 * Commands find the server by a small file in the data folder: its address and the
 * journal's id, which they send along, so that they never talk to a stranger that
 * listens there now.
 */
#include "app/gateway_internal.h"

#include "base/log.h"
#include "codec/json.h"

struct page_row {
    const char *path; /* behind /api/v1/ */
    bool changes;     /* POST */
    enum mr_admin_status (*answer)(struct gateway *gateway, const struct mr_admin_request *request,
                                   struct mr_text *page);
};

static const char announced_name[] = "admin.address";

/* ---- pages ---- */

static enum mr_admin_status answer_error(struct mr_text *page, enum mr_admin_status status,
                                         const char *text)
{
    mr_text_add(page, "{\"error\":");
    mr_json_add_string(page, mr_span_of(text));
    mr_text_add(page, "}\n");
    return status;
}

static enum mr_admin_status answer_status(struct gateway *gateway,
                                          const struct mr_admin_request *request,
                                          struct mr_text *page)
{
    (void)request;
    mr_status_page(gateway, page);
    return MR_ADMIN_OK;
}

static enum mr_admin_status answer_bridges(struct gateway *gateway,
                                           const struct mr_admin_request *request,
                                           struct mr_text *page)
{
    (void)request;
    mr_text_add(page, "{");
    mr_status_bridges(gateway, page);
    mr_text_add(page, "}\n");
    return MR_ADMIN_OK;
}

static const struct page_row pages[] = {
    {"status", false, answer_status},
    {"bridges", false, answer_bridges},
};

enum mr_admin_status mr_control_answer(void *arg, const struct mr_admin_request *request,
                                       struct mr_text *page)
{
    static const char version[] = "v1/";
    const char *path = mr_admin_path(request);

    for (size_t i = 0; i < MR_COUNT_OF(pages) && strncmp(path, version, 3) == 0; i++) {
        if (strcmp(path + sizeof(version) - 1, pages[i].path) != 0) {
            continue;
        }
        if (mr_admin_is_post(request) != pages[i].changes) {
            return answer_error(page, MR_ADMIN_WRONG_METHOD,
                                pages[i].changes ? "this page changes something: POST"
                                                 : "this page changes nothing: GET");
        }
        return pages[i].answer(arg, request, page);
    }
    return answer_error(page, MR_ADMIN_NOT_FOUND, "there is no such page");
}

/* ---- being found ---- */

static enum mr_err announce(const char *path, const char *unfinished, const char *line)
{
    struct mr_file file;
    struct mr_span part = mr_span_of(line);
    enum mr_err err = mr_path_remove(unfinished);

    if (err != MR_OK && err != MR_ERR_REJECT) {
        return err;
    }
    err = mr_file_open(&file, unfinished, MR_FILE_CREATE, NULL);
    if (err != MR_OK) {
        return err;
    }
    err = mr_file_write(&file, &part, 1, 0);
    mr_file_close(&file);
    return err == MR_OK ? mr_path_rename(unfinished, path) : err;
}

void mr_control_announce(struct gateway *gateway)
{
    char path[GATEWAY_PATH_BYTES];
    char unfinished[GATEWAY_PATH_BYTES];
    char line[256];
    struct mr_text text = mr_text_over(line, sizeof(line));

    if (gateway->admin == NULL) {
        return;
    }
    mr_gateway_path(gateway, announced_name, path);
    mr_gateway_path(gateway, "admin.address.tmp", unfinished);
    mr_text_fmt(&text, "%s %s\n", mr_admin_address(gateway->admin), gateway->journal_id);
    if (announce(path, unfinished, line) != MR_OK) {
        mr_log(MR_LOG_WARN, "admin",
               "%s cannot be written: %s; commands like `millrace bridge ls` will not find this "
               "gateway",
               path, mr_file_last_cause());
    }
}

void mr_control_withdraw(struct gateway *gateway)
{
    char path[GATEWAY_PATH_BYTES];

    if (gateway->admin != NULL) {
        mr_gateway_path(gateway, announced_name, path);
        (void)!mr_path_remove(path);
    }
}
