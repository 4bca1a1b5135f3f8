/*
 * humcli-webhook: owns the table of verbs, --help, and the exit. Must not know
 * what a verb does. main() opens stdout, finds the verb by its name, runs it,
 * and reports a stdout that could not be written.
 */
#include "config.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/standard_files.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/signing_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb verbs[] = {
	{ "init", cmd_init,
	  "[--home | --user NAME] [--dry-run] [--steps] [--url URL]\n"
	  "[--database CONNINFO] [--admin CONNINFO]\n"
	  "[--server apache|lighttpd|nginx|caddy]",
	  "set up settings, a secret and the database; say what is left",
	  "init --url https://agent.example/humcli\n"
	  "init --home --database \"dbname=mine user=me\"" },
	{ "doctor", cmd_doctor,
#ifdef HAVE_CURL
	  "[--json | --nagios] [--reader CONNINFO | --no-events]\n"
	  "[--user NAME] [--web-config PATTERN] [--http URL] [--ping URL]\n"
	  "[--cacert FILE | --insecure] " SECRET_USAGE "\n"
	  "[URL]",
#else
	  "[--json | --nagios] [--reader CONNINFO | --no-events]\n"
	  "[--user NAME] [--web-config PATTERN]",
#endif
	  "check all that the receiver needs, and say what helps",
	  "doctor\n"
	  "doctor --nagios https://agent.example/humcli" },
	{ "secret", cmd_secret,
	  "add [--url URL] [--json] NAME\n"
	  "list [--json | --wide]\n"
	  "remove [--force] NAME",
	  "add, list and remove the secrets that the receiver accepts",
	  "secret add --url https://agent.example/humcli agent-7\n"
	  "secret list" },
	{ "sign", cmd_sign, SECRET_USAGE " [FILE]",
	  "print the signature of a file or of stdin",
	  "sign event.json\n"
	  "sign --secret-name main <event.json" },
	{ "verify", cmd_verify, "--signature HEX " SECRET_USAGE " [FILE]",
	  "say which secret a signature was made with",
	  "verify --signature \"$signature\" event.json\n"
	  "verify --secret-file secret --signature \"$signature\" <event.json" },
#ifdef HAVE_CURL
	{ "send", cmd_send,
	  "[--lifecycle main|rejected-estimate|disputed|cancelled]\n"
	  "[--task-id ID] [--status STATUS] [--previous-status STATUS]\n"
	  "[--event EVENT] [--body FILE]\n"
	  "[--duplicate] [--restamp] [--shuffle [--seed N]]\n"
	  "[--bad-signature] [--json] [--cacert FILE | --insecure]\n"
	  "" SECRET_USAGE " URL",
	  "sign and POST the documented event, or a simulated task's life",
	  "send https://agent.example/humcli\n"
	  "send --lifecycle main --duplicate --shuffle https://agent.example/humcli" },
	{ "probe", cmd_probe,
	  "[--json] [--http URL] [--vectors FOLDER]\n"
	  "[--cacert FILE | --insecure]\n"
	  "" SECRET_USAGE " URL",
	  "test whether a receiver accepts and refuses what it should",
	  "probe https://agent.example/humcli\n"
	  "probe --json --secret-file secret https://agent.example/hook" },
#endif
	{ "listen", cmd_listen,
	  "--subscription NAME [--exec COMMAND] [--once | --poll-only]\n"
	  "    [--from now|beginning] [--status STATUS,...] [--secret NAME,...]\n"
	  "    [--count N] [--timeout DURATION]\n"
	  "--pool NAME [--concurrency N] [--lease DURATION]\n"
	  "    [... as above]\n"
	  "[--count N] [--timeout DURATION]",
	  "deliver the events of a subscription or pool, or notifications",
	  "listen --subscription agent --exec ./process-task-update\n"
	  "listen --count 1 --timeout 10s" },
	{ "events", cmd_events,
	  "[--task ID] [--status STATUS,...] [--secret NAME,...]\n"
	  "[--since TIME] [--until TIME] [--limit N] [--follow]\n"
	  "[--json | --wide]",
	  "list the recorded events, and follow new ones",
	  "events --since 1h\n"
	  "events --follow --limit 0 --json" },
	{ "tasks", cmd_tasks,
	  "[--open] [--status STATUS,...] [--limit N] [--json | --wide]",
	  "list the tasks and the status of each",
	  "tasks --open\n"
	  "tasks --status disputed,manual_review" },
	{ "task", cmd_task, "[--json] ID",
	  "show a task's history, with its gaps and repeats",
	  "task task_abc123\n"
	  "task --json task_abc123" },
	{ "wait", cmd_wait, "[--for STATUS,...] [--timeout DURATION] ID",
	  "wait until a task has ended, or has reached a status",
	  "wait task_abc123\n"
	  "wait --for submitted --timeout 2h task_abc123" },
	{ "gaps", cmd_gaps, "[--task ID] [--limit N] [--json | --wide]",
	  "list where an event is missing in a task's history",
	  "gaps\n"
	  "gaps --task task_abc123 --json" },
	{ "subscriptions", cmd_subscriptions, "[--json | --wide]",
	  "list who listens, and how far each is",
	  "subscriptions\n"
	  "subscriptions --json" },
	{ "unsubscribe", cmd_unsubscribe, "NAME",
	  "remove a subscription or pool that nobody needs any more",
	  "unsubscribe trial\n"
	  "unsubscribe lines" },
	{ "replay", cmd_replay,
	  "--subscription NAME [--id ID,...] [--task ID] [--status STATUS,...]\n"
	  "    [--since TIME] [--until TIME]",
	  "deliver events again to a subscription",
	  "replay --subscription agent --since 1h\n"
	  "replay --subscription agent --task task_abc123" },
	{ "dead", cmd_dead,
	  "list [--pool NAME] [--json | --wide]\n"
	  "redrive --pool NAME [--id ID]",
	  "list the dead letters of a pool, or try them again",
	  "dead list\n"
	  "dead redrive --pool agents" },
#ifdef HAVE_CURL
	{ "reconcile", cmd_reconcile,
	  "[--dry-run] [--task ID] [--api URL]\n"
	  "[--wait DURATION] [--timeout DURATION] [--cacert FILE]",
	  "ask HumCLI which events were missed, and record them",
	  "reconcile --dry-run\n"
	  "reconcile --task task_abc123" },
#endif
	{ "report", cmd_report, "[--output FILE]",
	  "print a page of what is open, missing, waiting and wrong",
	  "report >report.html\n"
	  "report --output /var/www/private/humcli.html" },
	{ "metrics", cmd_metrics, "[--output FILE]",
	  "print metrics for Prometheus's textfile collector",
	  "metrics\n"
	  "metrics --output /var/lib/prometheus/node-exporter/humcli.prom" },
	{ "purge", cmd_purge, "--older-than INTERVAL\n--tests",
	  "delete old tasks, or those of send and probe, from the database",
	  "purge --older-than \"90 days\"\n"
	  "purge --tests" },
	{ "quarantine", cmd_quarantine,
	  "list [--json | --wide] [ID...]\nretry [ID...]",
	  "list signed bodies that are not events, or try them again",
	  "quarantine list\n"
	  "quarantine retry" },
	{ "spool", cmd_spool,
	  "list [--json | --wide]\ndrain\nretry-failed [NAME...]",
	  "show and empty the spool, where events wait for the database",
	  "spool list\n"
	  "spool drain" },
	{ "completion", cmd_completion, "bash\nzsh",
	  "print the script that completes this command line in a shell",
	  "completion bash >/etc/bash_completion.d/humcli-webhook\n"
	  "completion zsh >~/.zfunc/_humcli-webhook" },
};

const struct verb *cli_verbs(size_t *count)
{
	*count = ARRAY_SIZE(verbs);
	return verbs;
}

static void print_help(FILE *to)
{
	fputs("usage: humcli-webhook VERB [options]\n"
	      "       humcli-webhook help [VERB]\n"
	      "       humcli-webhook --help | --version\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\nSettings: humcli-webhook.conf(5). More: humcli-webhook(1).\n",
	      to);
}

/*
 * Runs a verb. Its messages are for a person, except those of listen, which
 * runs for long and writes a log.
 */
static int run_verb(const struct verb *v, int argc, char **argv)
{
	char *name = xasprintf("humcli-webhook %s", v->name);
	int code;

	if (strcmp(v->name, "listen") != 0)
		log_for_terminal(name);
	code = v->run(v, argc, argv);
	log_for_terminal(NULL);
	free(name);
	return code;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(name, verbs[i].name) == 0)
			return &verbs[i];
	}
	return NULL;
}

static int report_unknown_verb(const char *name)
{
	const char *like = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(verbs) && !like; i++) {
		if (cli_is_like(name, verbs[i].name))
			like = verbs[i].name;
	}
	fprintf(stderr, "humcli-webhook: unknown %s '%s'; ",
		*name == '-' ? "option" : "verb", name);
	if (like)
		fprintf(stderr, "did you mean '%s'? ", like);
	fputs("'humcli-webhook --help' lists all\n", stderr);
	return EX_USAGE;
}

/* Prints the lists of options for the manual. */
static int print_mdoc(void)
{
	int code = EX_OK;

	for (size_t i = 0; i < ARRAY_SIZE(verbs) && code == EX_OK; i++)
		code = cli_run_help(&verbs[i], "mdoc");
	return code;
}

/* Prints the help for "help", "help VERB", --help and -h. */
static int help(int argc, char **argv)
{
	const struct verb *v = argc > 2 ? find_verb(argv[2]) : NULL;

	if (argc > 2 && strcmp(argv[2], "--mdoc") == 0)
		return print_mdoc();
	if (argc > 2 && !v)
		return report_unknown_verb(argv[2]);
	if (v)
		return cli_run_help(v, "");
	print_help(stdout);
	return EX_OK;
}

static int run(int argc, char **argv)
{
	const struct verb *v;

	if (argc < 2) {
		print_help(stderr);
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help(argc, argv);
	if (strcmp(argv[1], "--version") == 0) {
		puts(PACKAGE_STRING);
		return EX_OK;
	}
	v = find_verb(argv[1]);
	return v ? run_verb(v, argc - 1, argv + 1)
		 : report_unknown_verb(argv[1]);
}

int main(int argc, char **argv)
{
	int code = standard_files_reserve() && output_open() ? run(argc, argv)
							     : EX_OSERR;

	/*
	 * Reports output that was not written, because a full disk is no
	 * success.
	 */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "humcli-webhook: can't write to stdout: %s\n",
			strerror(errno));
		code = EX_IOERR;
	}
	return code;
}
