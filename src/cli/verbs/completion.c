/*
 * completion: prints the script that completes our command line in bash or zsh.
 * cli/completion.c prints the branch of each verb, from the table that the verb
 * itself reads its options by.
 */
#include "base/macros.h"
#include "cli/cli.h"

#include <stdio.h>

static const char bash_start[] =
	"# bash completion for humcli-webhook; made by: humcli-webhook "
	"completion bash\n"
	"\n"
	"# Prints the word of the command line that is one of the subcommands.\n"
	"_humcli_webhook_action()\n"
	"{\n"
	"\tlocal i action\n"
	"\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
	"\t\tfor action in $1; do\n"
	"\t\t\t[ \"${COMP_WORDS[i]}\" != \"$action\" ] || {\n"
	"\t\t\t\techo \"$action\"\n"
	"\t\t\t\treturn\n"
	"\t\t\t}\n"
	"\t\tdone\n"
	"\tdone\n"
	"}\n"
	"\n"
	"_humcli_webhook()\n"
	"{\n"
	"\tlocal word=${COMP_WORDS[COMP_CWORD]} "
	"before=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\tlocal options='' actions='' words='' kind='' operand='' list=''\n"
	"\tCOMPREPLY=()\n"
	"\t# --option=value is three words.\n"
	"\tif [ \"$word\" = = ]; then\n"
	"\t\tword=\n"
	"\telif [ \"$before\" = = ]; then\n"
	"\t\tbefore=${COMP_WORDS[COMP_CWORD - 2]}\n"
	"\tfi\n";

static const char bash_end[] =
	"\tesac\n"
	"\tcase $kind in\n"
	"\tvalue) return ;;\n"
	"\tfiles | folders) ;;\n"
	"\twords)\n"
	"\t\tcase $word in *,*) list=${word%,*}, word=${word##*,} ;; esac\n"
	"\t\t;;\n"
	"\t*)\n"
	"\t\twords=$actions\n"
	"\t\tkind=$operand\n"
	"\t\tcase $operand,$word in\n"
	"\t\tnone,* | *,-*) words=\"$words $options\" kind='' ;;\n"
	"\t\tesac\n"
	"\t\t;;\n"
	"\tesac\n"
	"\tcase $kind in\n"
	"\tfiles | folders)\n"
	"\t\tset -- -f\n"
	"\t\t[ \"$kind\" = files ] || set -- -d\n"
	"\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\tmapfile -t COMPREPLY < <(compgen \"$1\" -- \"$word\")\n"
	"\t\t;;\n"
	"\t*) mapfile -t COMPREPLY < \\\n"
	"\t\t<(compgen -P \"$list\" -W \"$words\" -- \"$word\") ;;\n"
	"\tesac\n"
	"}\n"
	"\n"
	"complete -F _humcli_webhook humcli-webhook\n";

static const char zsh_start[] =
	"#compdef humcli-webhook\n"
	"# zsh completion for humcli-webhook; made by: humcli-webhook "
	"completion zsh\n"
	"\n"
	"_humcli_webhook() {\n"
	"\tlocal -a verbs\n"
	"\tverbs=(\n";

static const char zsh_middle[] = "\t)\n"
				 "\tif (( CURRENT == 2 )); then\n"
				 "\t\t_describe -t verbs verb verbs\n"
				 "\t\treturn\n"
				 "\tfi\n"
				 "\tshift words\n"
				 "\t(( CURRENT-- ))\n"
				 "\tcase $words[1] in\n";

static const char zsh_end[] =
	"\thelp) (( CURRENT == 2 )) && _describe -t verbs verb verbs ;;\n"
	"\tesac\n"
	"}\n"
	"\n"
	"_humcli_webhook \"$@\"\n";

/* Prints the branches of all verbs, each by the verb itself. */
static int print_branches(const char *shell)
{
	size_t count;
	const struct verb *verbs = cli_verbs(&count);
	int code = EX_OK;

	for (size_t i = 0; i < count && code == EX_OK; i++)
		code = cli_run_help(&verbs[i], shell);
	return code;
}

static int print_bash(void *context)
{
	size_t count;
	const struct verb *verbs = cli_verbs(&count);
	int code;

	(void)context;
	fputs(bash_start, stdout);
	fputs("\tlocal verbs=\"", stdout);
	for (size_t i = 0; i < count; i++)
		printf("%s%s", i ? " " : "", verbs[i].name);
	puts("\"\n"
	     "\tif [ \"$COMP_CWORD\" = 1 ]; then\n"
	     "\t\tset -- verb\n"
	     "\telse\n"
	     "\t\tset -- \"${COMP_WORDS[1]}\"\n"
	     "\tfi\n"
	     "\tcase $1 in\n"
	     "\tverb) actions=\"$verbs help\" options=\"--help --version\" ;;\n"
	     "\thelp) [ \"$COMP_CWORD\" != 2 ] || actions=$verbs ;;");
	code = print_branches("bash");
	fputs(bash_end, stdout);
	return code;
}

static int print_zsh(void *context)
{
	size_t count;
	const struct verb *verbs = cli_verbs(&count);
	int code;

	(void)context;
	fputs(zsh_start, stdout);
	for (size_t i = 0; i < count; i++) {
		printf("\t\t'%s:", verbs[i].name);
		for (const char *p = verbs[i].summary; *p; p++) {
			if (*p == '\'')
				fputs("'\\''", stdout);
			else
				putchar(*p);
		}
		puts("'");
	}
	fputs(zsh_middle, stdout);
	code = print_branches("zsh");
	fputs(zsh_end, stdout);
	return code;
}

static const struct cli_action actions[] = {
	{ "bash", print_bash, 0, "" },
	{ "zsh", print_zsh, 0, "" },
};

int cmd_completion(const struct verb *v, int argc, char **argv)
{
	const struct cli_action *action;
	int code;

	action = cli_choose_action(v, &argc, &argv, NULL, 0, actions,
				   ARRAY_SIZE(actions), &code);
	return action ? action->run(NULL) : code;
}
