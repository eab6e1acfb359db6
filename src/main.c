/* main.c - the list of commands, and nothing else. */
#include "app/cli/cli.h"
#include "app/wire.h"

int main(int argc, char **argv)
{
    static const struct mr_command *const commands[] = {
        &mr_command_run,
        &mr_command_check,
        &mr_command_config,
        &mr_command_import,
        &mr_command_explain,
        &mr_command_simulate,
        &mr_command_tap,
        &mr_command_bridge,
        &mr_command_audit,
        &mr_command_clients,
        &mr_command_bans,
        &mr_command_dlq,
        &mr_command_journal,
        &mr_command_passwd,
        &mr_command_prove,
        &mr_command_version,
        NULL,
    };

    mr_cli_settings_data_path = mr_wire_data_path;
    return mr_cli_main(argc, argv, commands);
}
