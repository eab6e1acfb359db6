/* memory.c - what a configuration allocates, and the files it reads.
 *
 * Blocks are chained in front of what they hold, so closing a configuration is
 * one walk.  Start-up only; a configuration has some hundred blocks.
 */
#include "config/config_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct block {
    struct block *next;
    max_align_t data[];
};

void *config_alloc(struct mr_config *config, size_t size)
{
    struct block *block = mr_alloc(sizeof(struct block) + size);

    block->next = config->memory;
    config->memory = block;
    return block->data;
}

void mr_config_close(struct mr_config *config)
{
    if (config == NULL) {
        return;
    }
    struct block *block = config->memory;
    while (block != NULL) {
        struct block *next = block->next;
        mr_free(block);
        block = next;
    }
    mr_free(config->problems);
    mr_free(config);
}

const char *config_copy(struct mr_config *config, const char *text, size_t len)
{
    char *copy = config_alloc(config, len + 1);

    memcpy(copy, text, len);
    return copy;
}

const char *config_format(struct mr_config *config, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return config_copy(config, text, strlen(text));
}

const char *config_read_file(struct mr_config *config, const char *path, size_t bytes_max,
                             const char **text, size_t *len)
{
    FILE *file = fopen(path, "rbe");
    size_t capacity = 16384;
    size_t used = 0;

    if (file == NULL) {
        return config_copy(config, strerror(errno), strlen(strerror(errno)));
    }
    char *bytes = mr_alloc(capacity);
    while (used <= bytes_max) {
        size_t got = fread(bytes + used, 1, capacity - used, file);
        used += got;
        if (got == 0) {
            break;
        }
        if (used == capacity) {
            capacity *= 2;
            bytes = mr_realloc(bytes, capacity);
        }
    }
    int failed = ferror(file) != 0 ? errno : 0;
    (void)fclose(file);

    const char *why = NULL;
    if (failed != 0) {
        why = config_copy(config, strerror(failed), strlen(strerror(failed)));
    } else if (used > bytes_max) {
        why = config_format(config, "it is larger than %zu KiB", bytes_max >> 10);
    } else {
        *text = config_copy(config, bytes, used);
        *len = used;
    }
    mr_free(bytes);
    return why;
}

const char *config_join(struct mr_config *config, const char *folder, size_t folder_len,
                        const char *name)
{
    size_t name_len = strlen(name);
    char *joined = config_alloc(config, folder_len + 1 + name_len + 1);

    memcpy(joined, folder, folder_len);
    joined[folder_len] = '/';
    memcpy(joined + folder_len + 1, name, name_len);
    return joined;
}

const char *config_path_from(struct mr_config *config, const struct config_source *source,
                             const char *path)
{
    const char *slash = strrchr(source->name, '/');

    if (source->is_set || slash == NULL || path[0] == '/' || path[0] == '\0') {
        return path;
    }
    return config_join(config, source->name, (size_t)(slash - source->name), path);
}
