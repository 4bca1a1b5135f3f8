/*
 * doctor: reads the options, decides as whom to check, and runs the checks of
 * cli/doctor/.
 *
 * Root can read files that the receiver can't, so a child process becomes the
 * receiver's user and makes all checks. If that user's role may not read the
 * events, a second child becomes postgres and checks those. Both print their
 * findings and count them in shared memory.
 */
#include "config.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "cli/doctor/doctor.h"
#include "cli/program.h"
#include "cli/signing_keys.h"
#include "config/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CURL
#include "cli/http.h"
#endif

struct doctor_run {
	const struct verb *verb;
	struct findings findings;
	struct secret_choice secret;
	const char *url;
	const char *plain;
	const char *ping;
	const char *cacert;
	bool insecure;
	bool no_events;
	const char *reader;
	const char *web;
	const char *user; /* as whom to check; NULL: as who started it */
};

#ifdef HAVE_CURL
static int check_url(struct doctor_run *x)
{
	struct http_target target = { .url = x->url,
				      .cacert = x->cacert,
				      .insecure = x->insecure };
	struct signing_keys keys;
	int code = signing_keys_open(&keys, x->verb, &x->secret);

	/* Any of the secrets serves. */
	if (code == EX_OK && keys.count)
		doctor_http(&x->findings, &target, keys.list, x->plain);
	else
		report_finding(&x->findings, FINDING_SKIPPED, "signed",
			       "fix the secrets first, see above",
			       "there is no secret to sign with");
	signing_keys_close(&keys);
	return code == EX_USAGE ? code : EX_OK;
}
#endif

#ifdef HAVE_CURL
/* Calls a dead man's switch. Returns an exit code. */
static int ping(const struct doctor_run *x)
{
	static const char *const headers[] = { "Content-Type: text/plain",
					       NULL };
	struct http_target target = { .url = x->ping };
	struct http_answer answer = { 0 };
	char reason[256];
	struct http *h = http_open(&target, reason, sizeof(reason));
	int code = EX_UNAVAILABLE;

	if (!h)
		cli_error(x->verb, "can't ping %s: %s", x->ping, reason);
	else if (!http_post(h, headers, "", 0, &answer))
		cli_error(x->verb, "can't ping %s: %s", x->ping, answer.reason);
	else if (answer.status < 200 || answer.status > 299)
		cli_error(x->verb, "can't ping %s: the answer is %ld", x->ping,
			  answer.status);
	else
		code = EX_OK;
	http_answer_free(&answer);
	http_close(h);
	return code;
}
#endif

/* Makes all checks as the user of this process. Returns the exit code. */
static int check_all(void *context)
{
	struct doctor_run *x = context;
	struct findings *f = &x->findings;
	struct settings_sources places = settings_sources();
	struct settings settings = { 0 };
	struct buf errors = { 0 };
	int code = EX_OK;

	if (x->user)
		report_finding(f, FINDING_OK, "user", NULL, "checking as %s",
			       x->user);
	if (settings_load(&settings, &places, &errors)) {
		doctor_files(f, &settings);
		doctor_spool(f, &settings);
		doctor_log(f, &settings);
		doctor_web(f, &settings, x->web);
		doctor_database(f, settings.database, x->reader);
#ifdef HAVE_CURL
		if (x->url)
			code = check_url(x);
#endif
	} else {
		doctor_error_lines(f, "settings", &errors,
				   "correct the setting: "
				   "humcli-webhook.conf(5) explains them all");
	}
	buf_free(&errors);
	settings_free(&settings);
	return code;
}

static int check_recorded(void *context)
{
	struct doctor_run *x = context;

	doctor_recorded(&x->findings, x->findings.shared->reader, true);
	return EX_OK;
}

/* Makes all checks as x->user. Returns the exit code. */
static int check_as_user(struct doctor_run *x)
{
	int code;

	if (cli_run_as(x->user, check_all, x, &code))
		return code;
	report_finding(&x->findings, FINDING_FAILURE, "user",
		       "systemd-sysusers creates humcli-webhook; --user NAME "
		       "selects another user",
		       "can't become %s", x->user);
	return EX_OK;
}

/* Checks the events as postgres, if the receiver's role may not read them. */
static void check_events_as_postgres(struct doctor_run *x)
{
	struct findings *f = &x->findings;
	int code;

	if (*f->shared->reader &&
	    !cli_run_as("postgres", check_recorded, x, &code))
		report_finding(f, FINDING_SKIPPED, "events",
			       "give --reader CONNINFO of a role that may read "
			       "them",
			       "there is no system user postgres to read the "
			       "events as");
}

/* Checks the keys with the rights of this process; others report settings. */
static void check_keys(struct doctor_run *x)
{
	struct settings_sources places = settings_sources();
	struct settings settings = { 0 };
	struct buf errors = { 0 };

	if (settings_load(&settings, &places, &errors))
		doctor_keys(&x->findings, &settings, x->user);
	buf_free(&errors);
	settings_free(&settings);
}

static int run(struct doctor_run *x)
{
	struct findings *f = &x->findings;
	int code;

	f->by_root = geteuid() == 0;
	f->no_events = x->no_events;
	/* Before another user is assumed, who may not reach the socket. */
	doctor_socket(f);
	if (x->user && !f->by_root) {
		report_finding(f, FINDING_FAILURE, "user",
			       "run it as root, or as that user without --user",
			       "only root can become %s", x->user);
		return EX_OK;
	}
	if (f->by_root && !x->user)
		x->user = cli_receiver_user();
	check_keys(x);
	code = x->user ? check_as_user(x) : check_all(x);
	check_events_as_postgres(x);
	return code;
}

int cmd_doctor(const struct verb *v, int argc, char **argv)
{
	struct doctor_run x = { .verb = v };
	bool nagios = false, json = false;
	const struct cli_option options[] = {
		{ "json", NULL, &json, NULL, "print one JSON object per line" },
		{ "nagios", NULL, &nagios, NULL,
		  "print one line, for monitoring" },
		{ "no-events", NULL, &x.no_events, NULL,
		  "skip the checks of the recorded events" },
		{ "reader", &x.reader, NULL, "CONNINFO",
		  "read the events by this connection (default: that of the settings)" },
		{ "user", &x.user, NULL, "NAME",
		  "check as this user (default: for root the receiver's)" },
		{ "web-config", &x.web, NULL, "PATTERN",
		  "check the configuration files of this pattern (default: those that are enabled)" },
#ifdef HAVE_CURL
		{ "http", &x.plain, NULL, "URL",
		  "try this URL without TLS (default: the same URL with http://)" },
		{ "ping", &x.ping, NULL, "URL",
		  "POST to this URL if all is well" },
		{ "cacert", &x.cacert, NULL, "FILE",
		  "trust only the certificates in this PEM file" },
		{ "insecure", NULL, &x.insecure, NULL,
		  "trust any certificate" },
		{ "secret-file", &x.secret.file, NULL, "FILE",
		  "sign with the secret in this file, and read no settings" },
		{ "secret-name", &x.secret.name, NULL, "NAME",
		  "sign with the active secret of this name (default: any)" },
#endif
	};
	int code, state;

#ifdef HAVE_CURL
	enum { OPERANDS = 1 };
#else
	enum { OPERANDS = 0 };
#endif

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options),
			 OPERANDS, &code))
		return code;
	if (x.cacert && x.insecure)
		return cli_usage_error(v,
				       "give --cacert or --insecure, not both");
	if (nagios && json)
		return cli_usage_error(v, "give --nagios or --json, not both");
	x.url = argv[0];
	if (!findings_begin(&x.findings, nagios ? FINDINGS_NAGIOS
					 : json ? FINDINGS_JSON
						: FINDINGS_TEXT)) {
		cli_error(v, "can't get memory: %s", strerror(errno));
		return EX_OSERR;
	}
	code = run(&x);
	state = findings_end(&x.findings);
#ifdef HAVE_CURL
	if (x.ping && code == EX_OK && state == 0)
		code = ping(&x);
#endif
	return code == EX_OK ? state : code;
}
