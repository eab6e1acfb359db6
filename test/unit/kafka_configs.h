/* kafka_configs.h - what Kafka answers to DescribeConfigs, of which librdkafka's mock cluster knows
 * nothing: the accessors of an answer are ours, and tell what a script says.
 *
 *     configs_say(&(struct configs){.name = "cleanup.policy", .value = "compact", ...})
 *
 * The test that includes it has its rd_kafka_event_error() tell no error of an answer that
 * is_configs_answer().
 *
 * Thread: the script is the test's, before anything asks.   Memory: static.
 */
#ifndef MR_TEST_KAFKA_CONFIGS_H
#define MR_TEST_KAFKA_CONFIGS_H

#include "base/base.h"

#include <dlfcn.h>
#include <librdkafka/rdkafka.h>

enum { UNANSWERED_MS = 10 };

/* The only entry, behind so many errors. */
struct configs {
    const char *name;
    const char *value;
    int errors;
    rd_kafka_resp_err_t err;
};

static struct configs configs;
static _Atomic int configs_asked; /* so often */

static void configs_say(const struct configs *said)
{
    configs = *said;
    configs_asked = 0;
}

static bool is_configs_answer(rd_kafka_event_t *event)
{
    return configs.name != NULL &&
           rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT;
}

/* The mock cluster does not answer; that is not waited for. */
rd_kafka_resp_err_t rd_kafka_AdminOptions_set_request_timeout(rd_kafka_AdminOptions_t *options,
                                                              int timeout_ms, char *text,
                                                              size_t size)
{
    static rd_kafka_resp_err_t (*_Atomic next)(rd_kafka_AdminOptions_t *, int, char *, size_t);

    (void)timeout_ms;
    if (next == NULL) {
        next = (rd_kafka_resp_err_t(*)(rd_kafka_AdminOptions_t *, int, char *, size_t))(
            uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_AdminOptions_set_request_timeout");
    }
    return next(options, UNANSWERED_MS, text, size);
}

/* Opaque ones: whoever has one asks us. */
static char configs_thing;

const rd_kafka_DescribeConfigs_result_t *rd_kafka_event_DescribeConfigs_result(
    rd_kafka_event_t *event)
{
    (void)event;
    return (const rd_kafka_DescribeConfigs_result_t *)(const void *)&configs_thing;
}

const rd_kafka_ConfigResource_t **rd_kafka_DescribeConfigs_result_resources(
    const rd_kafka_DescribeConfigs_result_t *result, size_t *count)
{
    static const rd_kafka_ConfigResource_t *resources[1];

    resources[0] = (const rd_kafka_ConfigResource_t *)(const void *)result;
    *count = 1;
    return resources;
}

rd_kafka_resp_err_t rd_kafka_ConfigResource_error(const rd_kafka_ConfigResource_t *resource)
{
    (void)resource;
    configs_asked += 1;
    return configs_asked <= configs.errors ? configs.err : RD_KAFKA_RESP_ERR_NO_ERROR;
}

const rd_kafka_ConfigEntry_t **rd_kafka_ConfigResource_configs(
    const rd_kafka_ConfigResource_t *resource, size_t *count)
{
    static const rd_kafka_ConfigEntry_t *entries[1];

    entries[0] = (const rd_kafka_ConfigEntry_t *)(const void *)resource;
    *count = configs_asked > configs.errors;
    return entries;
}

const char *rd_kafka_ConfigEntry_name(const rd_kafka_ConfigEntry_t *entry)
{
    (void)entry;
    return configs.name;
}

const char *rd_kafka_ConfigEntry_value(const rd_kafka_ConfigEntry_t *entry)
{
    (void)entry;
    return configs.value;
}

#endif
