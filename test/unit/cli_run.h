/* cli_run.h - a command as main() runs it, with what it writes.
 *
 *     cli_run(count, words, commands) ─▶ the exit code; out_text, err_text until the next one
 *
 * Thread: the test's.   Memory: of the last run; free() both at the end.
 */
#ifndef MR_TEST_CLI_RUN_H
#define MR_TEST_CLI_RUN_H

#include "app/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

static char *out_text;
static char *err_text;

static inline int cli_run(int count, char **words, const struct mr_command *const *commands)
{
    size_t out_len = 0;
    size_t err_len = 0;
    FILE *out = stdout;
    FILE *err = stderr;

    free(out_text);
    free(err_text);
    stdout = open_memstream(&out_text, &out_len);
    stderr = open_memstream(&err_text, &err_len);
    int code = mr_cli_main(count, words, commands);
    (void)fclose(stdout);
    (void)fclose(stderr);
    stdout = out;
    stderr = err;
    return code;
}

#endif
