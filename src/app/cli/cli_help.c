/* cli_help.c - help made from the tables of commands and options. */
#include "app/cli/cli_internal.h"
#include "base/text.h"

enum { HELP_COLUMNS = 80, LEFT_MAX = 28 };

/* `text` from column `indent` on, wrapped between words; the cursor stands there. */
static void put_wrapped(FILE *to, const char *text, size_t indent)
{
    size_t column = indent;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column > indent && column + 1 + len > HELP_COLUMNS) {
            (void)fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
        }
        (void)fprintf(to, "%s%.*s", column > indent ? " " : "", (int)len, text);
        column += len + (column > indent ? 1 : 0);
        text += len;
        text += strspn(text, " ");
    }
    (void)fprintf(to, "\n");
}

/* "  -n, --count COUNT" */
static void option_left(const struct mr_cli_option *row, struct mr_text *out)
{
    if (row->letter != 0) {
        mr_text_fmt(out, "  -%c, --%s", row->letter, row->name);
    } else {
        mr_text_fmt(out, "      --%s", row->name);
    }
    if (row->value != NULL) {
        mr_text_fmt(out, " %s", row->value);
    }
}

static void option_right(const struct mr_cli_option *row, struct mr_text *out)
{
    mr_text_add(out, row->help == NULL ? "" : row->help);
    for (size_t i = 0; row->type == MR_OPT_CHOICE && row->choices[i] != NULL; i++) {
        mr_text_fmt(out, "%s%s", i == 0 ? " One of: " : ", ", row->choices[i]);
    }
    if (row->type == MR_OPT_CHOICE) {
        mr_text_add(out, ".");
    }
    if (row->default_text != NULL) {
        mr_text_fmt(out, " [%s]", row->default_text);
    }
}

static size_t left_width(const struct mr_cli_option *table, size_t width)
{
    for (; table != NULL && table->name != NULL; table++) {
        char buffer[128];
        struct mr_text left = mr_text_over(buffer, sizeof(buffer));
        option_left(table, &left);
        width = left.len > width && left.len <= LEFT_MAX ? left.len : width;
    }
    return width;
}

static void put_options(FILE *to, const struct mr_cli_option *table, size_t width)
{
    for (; table != NULL && table->name != NULL; table++) {
        char left_buffer[128];
        char right_buffer[512];
        struct mr_text left = mr_text_over(left_buffer, sizeof(left_buffer));
        struct mr_text right = mr_text_over(right_buffer, sizeof(right_buffer));

        option_left(table, &left);
        option_right(table, &right);
        if (left.len > width) {
            (void)fprintf(to, "%s\n%*s", left_buffer, (int)width + 2, "");
        } else {
            (void)fprintf(to, "%-*s  ", (int)width, left_buffer);
        }
        put_wrapped(to, right_buffer, width + 2);
    }
}

/* Further paragraphs, which may or may not end their last line. */
static void put_paragraphs(FILE *to, const char *text)
{
    size_t len = text == NULL ? 0 : strlen(text);

    if (len > 0) {
        (void)fprintf(to, "\n%s%s", text, text[len - 1] == '\n' ? "" : "\n");
    }
}

static void put_commands(FILE *to, const struct mr_command *const *commands, const char *group)
{
    enum { NAME_WIDTH = 12 };

    for (size_t i = 0; commands[i] != NULL; i++) {
        if (group == NULL || strcmp(commands[i]->group, group) == 0) {
            (void)fprintf(to, "  %-*s", NAME_WIDTH, commands[i]->name);
            put_wrapped(to, commands[i]->summary, NAME_WIDTH + 2);
        }
    }
}

/* Was `commands[index]`'s group shown already? */
static bool group_is_shown(const struct mr_command *const *commands, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(commands[i]->group, commands[index]->group) == 0) {
            return true;
        }
    }
    return false;
}

static const struct mr_cli_option version_option[] = {
    {.name = "version", .type = MR_OPT_BOOL, .help = "The version, as the command does."},
    {.name = NULL},
};

static void help_top(const struct mr_cli *cli, FILE *to)
{
    (void)fprintf(to, "millrace brings sensor events from MQTT to Kafka, durable before they are\n"
                      "acknowledged.\n\n"
                      "Usage:\n  millrace COMMAND [OPTION]... [ARGUMENT]...\n");
    for (size_t i = 0; cli->commands[i] != NULL; i++) {
        if (!group_is_shown(cli->commands, i)) {
            (void)fprintf(to, "\n%s:\n", cli->commands[i]->group);
            put_commands(to, cli->commands, cli->commands[i]->group);
        }
    }
    (void)fprintf(to, "\nOptions of all commands:\n");
    put_options(to, cli_common_options, left_width(cli_common_options, 0));
    put_options(to, version_option, left_width(cli_common_options, 0));
    (void)fprintf(to, "\nExamples:\n"
                      "  millrace run -c /etc/millrace/millrace.yaml\n"
                      "  millrace tap --data /var/lib/millrace 'sensors/#'\n"
                      "\n'millrace COMMAND --help' tells more about one of them.\n");
}

static void help_group(const struct mr_cli *cli, FILE *to)
{
    (void)fprintf(to, "millrace %s: %s\n\nUsage:\n  millrace %s COMMAND [OPTION]...\n\nCommands:\n",
                  cli->name, cli->group->summary, cli->name);
    put_commands(to, cli->group->subcommands, NULL);
    put_paragraphs(to, cli->group->help);
    (void)fprintf(to, "\n'millrace %s COMMAND --help' tells more about one of them.\n", cli->name);
}

static void help_command(const struct mr_cli *cli, FILE *to)
{
    const struct mr_command *command = cli->command;
    size_t width = left_width(cli_common_options, left_width(command->options, 0));

    (void)fprintf(to, "millrace %s: %s\n\nUsage:\n  millrace %s [OPTION]...%s%s\n", cli->name,
                  command->summary, cli->name, command->arguments == NULL ? "" : " ",
                  command->arguments == NULL ? "" : command->arguments);
    if (command->options != NULL && command->options[0].name != NULL) {
        (void)fprintf(to, "\nOptions:\n");
        put_options(to, command->options, width);
    }
    (void)fprintf(to, "\nOptions of all commands:\n");
    put_options(to, cli_common_options, width);
    put_paragraphs(to, command->help);
}

void cli_help(const struct mr_cli *cli, FILE *to)
{
    if (cli->command != NULL) {
        help_command(cli, to);
    } else if (cli->group != NULL) {
        help_group(cli, to);
    } else {
        help_top(cli, to);
    }
}
