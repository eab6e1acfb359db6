/* fuzz_acl.c - ACL files and questions about them, beside the model that reads the file line
 * by line for each question.
 *
 * Input: client id, user name, topic or filter, a line feed behind each; then the file.
 */
#include "acl_naive.h"
#include "fuzz.h"

static void count_fault(void *arg, const char *text)
{
    mr_assert(strncmp(text, "acl file x, line ", 17) == 0);
    *(size_t *)arg += 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_span file = mr_span_make(data, size);
    struct mr_span client = mr_span_split(&file, '\n');
    struct mr_span user = file.at == NULL ? file : mr_span_split(&file, '\n');
    struct mr_span topic = file.at == NULL ? file : mr_span_split(&file, '\n');
    struct mr_acl *acl = NULL;
    struct mr_error why = {.text = ""};
    size_t faults = 0;

    if (file.at == NULL || client.len == 0) {
        return 0;
    }
    enum mr_err err = mr_acl_parse(&acl, "x", file, count_fault, &faults, &why);
    mr_assert((err == MR_OK) == (faults == 0) && (err == MR_OK) == (acl != NULL));
    if (err != MR_OK) {
        mr_assert(why.text[0] != 0);
        return 0;
    }
    struct mr_acl_who who = mr_acl_who(acl, client, user);
    if (mr_topic_filter_valid(topic)) {
        enum mr_acl_cover cover = mr_acl_covers(&who, topic);
        if (mr_topic_name_valid(topic)) {
            for (unsigned right = 1; right <= 4; right *= 2) {
                mr_assert(mr_acl_may(&who, topic, right) ==
                          naive_may(file, client, user, topic, right));
            }
            mr_assert((cover == MR_ACL_COVERS_ALL) == mr_acl_may(&who, topic, MR_ACL_READ));
            mr_assert((cover != MR_ACL_COVERS_NONE) == mr_acl_may(&who, topic, MR_ACL_SUBSCRIBE));
        }
    }
    mr_acl_drop(acl);
    return 0;
}
