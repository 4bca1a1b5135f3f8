#include "config.h"

#include "base/buf.h"
#include "base/macros.h"
#include "cli/doctor/doctor.h"
#include "cli/program.h"
#include "cli/signing_keys.h"
#include "config/settings.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_CURL
#include "base/buf.h"
#include "base/macros.h"
#include "cli/http.h"
#endif

struct doctor_run {
	const struct verb *verb;
	struct findings findings;
	struct secret_choice secret;
	const char *url;
	const char *plain;
	const char *cacert;
	bool insecure;
	const char *reader;
	const char *web;
	const char *user;
};

/*
 * As whom to look: root would see what the receiver does not. False: it was
 * said, and nothing is to be seen so.
 */
static bool switch_user(struct doctor_run *x)
{
	const char *name = x->user;

	if (geteuid() != 0) {
		if (!name)
			return true;
		report_finding(
			&x->findings, FINDING_FAILURE, "user",
			"run it as root, or as that user, without --user",
			"only root can become %s", name);
		return false;
	}
	/* The receiver's user of an installation for the whole system. */
	if (!name && !getenv("HUMCLI_WEBHOOK_CONFIG") &&
	    access(SYSCONFDIR "/humcli-webhook.conf", F_OK) == 0 &&
	    getpwnam("humcli-webhook"))
		name = "humcli-webhook";
	if (!name)
		return true;
	if (!cli_switch_user(name)) {
		report_finding(
			&x->findings, FINDING_FAILURE, "user",
			"systemd-sysusers makes humcli-webhook; --user NAME "
			"takes another",
			"can't become %s", name);
		return false;
	}
	report_finding(&x->findings, FINDING_OK, "user", NULL, "looking as %s",
		       name);
	return true;
}

static void report_errors(struct findings *f, struct buf *errors)
{
	for (char *line = strtok(errors->data, "\n"); line;
	     line = strtok(NULL, "\n"))
		report_finding(f, FINDING_FAILURE, "settings",
			       "humcli-webhook.conf(5) has all the keys; "
			       "humcli-webhook init writes a file that works",
			       "%s", line);
}

#ifdef HAVE_CURL
static int check_url(struct doctor_run *x)
{
	struct http_target target = { .url = x->url,
				      .cacert = x->cacert,
				      .insecure = x->insecure };
	struct signing_keys keys;
	int code = signing_keys_open(&keys, x->verb, &x->secret);

	/* Any of them will do. */
	if (code == EX_OK && keys.count)
		doctor_http(&x->findings, &target, keys.list, x->plain);
	else
		report_finding(&x->findings, FINDING_FAILURE, "signed",
			       "see above: the secrets are at fault",
			       "there is no secret to sign with");
	signing_keys_close(&keys);
	return code == EX_USAGE ? code : EX_OK;
}
#endif

static int examine(struct doctor_run *x)
{
	struct findings *f = &x->findings;
	struct settings_sources places = settings_sources();
	struct settings settings = { 0 };
	struct buf errors = { 0 };
	int code = EX_OK;

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
		report_errors(f, &errors);
	}
	buf_free(&errors);
	settings_free(&settings);
	return code;
}

int cmd_doctor(const struct verb *v, int argc, char **argv)
{
	struct doctor_run x = { .verb = v };
	const struct cli_option options[] = {
		{ "nagios", NULL, &x.findings.nagios },
		{ "reader", &x.reader, NULL },
		{ "user", &x.user, NULL },
		{ "web-config", &x.web, NULL },
#ifdef HAVE_CURL
		{ "http", &x.plain, NULL },
		{ "cacert", &x.cacert, NULL },
		{ "insecure", NULL, &x.insecure },
		{ "secret-file", &x.secret.file, NULL },
		{ "secret-name", &x.secret.name, NULL },
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
	x.url = argv[0];
	code = switch_user(&x) ? examine(&x) : EX_OK;
	state = findings_end(&x.findings);
	return code == EX_OK ? state : code;
}
