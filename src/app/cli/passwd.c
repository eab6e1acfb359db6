/* passwd.c - `millrace passwd`: users and hashes, in mosquitto_passwd's file and letters. */
#include "app/cli/cli.h"
#include "auth/passfile.h"
#include "base/text.h"
#include "os/file.h"
#include "os/process.h"

enum { PASSWORD_BYTES = 65536 }; /* MQTT's longest, and a NUL */

static const struct mr_cli_option passwd_options[] = {
    {.name = "batch",
     .letter = 'b',
     .type = MR_OPT_BOOL,
     .help = "The password is the third argument; others may see it there."},
    {.name = "create",
     .letter = 'c',
     .type = MR_OPT_BOOL,
     .help = "Make a new file; what was there is gone."},
    {.name = "delete", .letter = 'D', .type = MR_OPT_BOOL, .help = "Remove the user."},
    {.name = "upgrade",
     .letter = 'U',
     .type = MR_OPT_BOOL,
     .help = "Make hashes of all passwords that are plain text."},
    {.name = "scram",
     .type = MR_OPT_BOOL,
     .help = "For clients that log in by SCRAM-SHA-256 and never send their password."},
    {.name = "iterations",
     .letter = 'I',
     .type = MR_OPT_U64,
     .value = "COUNT",
     .default_text = "10000",
     .min = 1,
     .max = MR_PASSHASH_ITERATIONS_MAX,
     .help = "How slow the hash is; 10,000 are about 5 ms for each check."},
    {.name = NULL},
};
_Static_assert(MR_PASSHASH_ITERATIONS == 10000, "as the option's default says");

static int exit_of(enum mr_err err)
{
    return err == MR_ERR_IO ? MR_EXIT_IO : err == MR_ERR_REJECT ? MR_EXIT_NO_INPUT : MR_EXIT_DATA;
}

static int change(struct mr_cli *cli, const char *path, const struct mr_passfile_change *how,
                  size_t *changed)
{
    struct mr_error why;
    enum mr_err err = mr_passfile_write(path, how, changed, &why);

    return err == MR_OK ? MR_EXIT_OK : mr_cli_fail(cli, exit_of(err), "%s", why.text);
}

/* How many arguments the letters ask for; 0: they do not go together. */
static size_t arguments_wanted(const struct mr_cli *cli)
{
    bool batch = mr_cli_flag(cli, "batch");
    bool create = mr_cli_flag(cli, "create");
    bool delete = mr_cli_flag(cli, "delete");
    bool upgrade = mr_cli_flag(cli, "upgrade");

    if (upgrade) {
        return batch || create || delete ? 0 : 1;
    }
    if (delete) {
        return batch || create ? 0 : 2;
    }
    return batch ? 3 : 2;
}

/* Twice, on a terminal; false: they differ, or there is none. */
static bool password_ask(struct mr_cli *cli, char *into, char *again)
{
    if (!mr_secret_ask("Password: ", into, PASSWORD_BYTES)) {
        (void)mr_cli_fail(cli, MR_EXIT_DATA,
                          "no password on stdin, or one of more than 65,535 "
                          "bytes");
        return false;
    }
    if (mr_is_terminal(0) &&
        (!mr_secret_ask("Reenter password: ", again, PASSWORD_BYTES) || strcmp(into, again) != 0)) {
        (void)mr_cli_fail(cli, MR_EXIT_DATA, "the passwords differ; nothing is changed");
        return false;
    }
    return true;
}

/* The same password for SCRAM.  Lines of it that a user has already stay usable, so fewer
 * iterations than clients accept become as many as they do.
 */
static void scram_make(const char *password, uint32_t iterations, char out[MR_SCRAM_TEXT_MAX])
{
    uint8_t salt[MR_SCRAM_SALT_BYTES];
    struct mr_scram_keys keys;

    mr_os_random(salt, sizeof(salt));
    mr_scram_make(mr_span_of(password),
                  iterations < MR_SCRAM_ITERATIONS_MIN ? MR_SCRAM_ITERATIONS_MIN : iterations, salt,
                  &keys);
    mr_scram_write(&keys, out);
    mr_secret_wipe(&keys, sizeof(keys));
}

static int user_set(struct mr_cli *cli, const char *path, const char *user, const char *password)
{
    uint8_t salt[MR_PASSHASH_SALT_BYTES];
    char hash[MR_PASSHASH_TEXT_MAX];
    char scram[MR_SCRAM_TEXT_MAX];
    size_t changed = 0;
    bool create = mr_cli_flag(cli, "create");
    bool wanted = mr_cli_flag(cli, "scram");
    uint32_t iterations = (uint32_t)mr_cli_number(cli, "iterations");

    if (password[0] == 0) {
        return mr_cli_fail(cli, MR_EXIT_DATA, "the password is empty; nothing is changed");
    }
    if (!create && !mr_path_exists(path)) {
        return mr_cli_fail(cli, MR_EXIT_NO_INPUT, "there is no %s; -c makes it", path);
    }
    if (wanted && iterations < MR_SCRAM_ITERATIONS_MIN) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "--iterations %u: clients refuse SCRAM with fewer than %u", iterations,
                           MR_SCRAM_ITERATIONS_MIN);
    }
    mr_os_random(salt, sizeof(salt));
    mr_passhash_make(mr_span_of(password), iterations, salt, hash);
    scram_make(password, iterations, scram);
    return change(cli, path,
                  &(struct mr_passfile_change){.how = create ? MR_PASSFILE_CREATE : MR_PASSFILE_SET,
                                               .user = user,
                                               .hash = hash,
                                               .scram = scram,
                                               .scram_wanted = wanted},
                  &changed);
}

static int user_ask(struct mr_cli *cli, const char *path, const char *user)
{
    char *password = mr_alloc(2 * PASSWORD_BYTES);
    int code = MR_EXIT_DATA;

    if (password_ask(cli, password, password + PASSWORD_BYTES)) {
        code = user_set(cli, path, user, password);
    }
    mr_secret_wipe(password, 2 * PASSWORD_BYTES);
    mr_free(password);
    return code;
}

static int upgrade(struct mr_cli *cli, const char *path)
{
    size_t changed = 0;
    int code = change(
        cli, path,
        &(struct mr_passfile_change){.how = MR_PASSFILE_UPGRADE,
                                     .iterations = (uint32_t)mr_cli_number(cli, "iterations")},
        &changed);

    if (code == MR_EXIT_OK) {
        mr_cli_note(cli, "%zu passwords became hashes", changed);
    }
    return code;
}

static int passwd_run(struct mr_cli *cli)
{
    size_t count = mr_cli_argument_count(cli);
    size_t wanted = arguments_wanted(cli);
    size_t changed = 0;

    if (wanted == 0) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "-U and -D stand alone; see --help");
    }
    if (count != wanted) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "%zu arguments, expected %s", count,
                           wanted == 1   ? "FILE"
                           : wanted == 2 ? "FILE USER (-b: FILE USER PASSWORD)"
                                         : "FILE USER PASSWORD");
    }
    const char *path = mr_cli_argument(cli, 0);
    if (wanted == 1) {
        return upgrade(cli, path);
    }
    const char *user = mr_cli_argument(cli, 1);
    const char *fault = mr_passfile_user_fault(user);
    if (fault != NULL) {
        return mr_cli_fail(cli, MR_EXIT_DATA, "'%s' is no user name: %s", user, fault);
    }
    if (mr_cli_flag(cli, "delete")) {
        return change(cli, path,
                      &(struct mr_passfile_change){.how = MR_PASSFILE_DELETE, .user = user},
                      &changed);
    }
    return wanted == 3 ? user_set(cli, path, user, mr_cli_argument(cli, 2))
                       : user_ask(cli, path, user);
}

const struct mr_command mr_command_passwd = {
    .name = "passwd",
    .group = "Tools",
    .summary = "set, remove or upgrade the users of a password file",
    .arguments = "FILE [USER [PASSWORD]]",
    .help = "Reads and writes the files of mosquitto_passwd, with its letters:\n"
            "  millrace passwd -c users.passwd press-7      asks for the password\n"
            "  millrace passwd -b users.passwd press-8 PASSWORD\n"
            "  millrace passwd -D users.passwd press-7\n"
            "  millrace passwd -U users.passwd              plain text becomes hashes\n"
            "  millrace passwd --scram users.passwd press-9 for SCRAM alone\n"
            "A user's lines of both kinds always get the same new password.\n"
            "The gateway reads the file of `auth.password_file` at its start.\n",
    .options = passwd_options,
    .arguments_min = 1,
    .arguments_max = 3,
    .run = passwd_run,
};
