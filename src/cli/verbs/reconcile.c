/*
 * reconcile: asks HumCLI's API for the tasks' statuses and records the events
 * that no webhook brought. This file reads the options, becomes the owner of
 * the keys, and lets one run go at a time; cli/reconcile/ does the rest.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/program.h"
#include "cli/query.h"
#include "cli/reconcile/run.h"
#include "config/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
	const char *task;
	const char *api;
	const char *cacert;
	int64_t wait; /* ms */
	int64_t deadline; /* ms, monotonic */
	bool dry_run;
};

/* Becomes the owner of the keys, if root started it. Returns an exit code. */
static int become_owner(const struct query *q)
{
	const char *folder = q->settings.key_dir;
	struct stat st;
	char *owner;
	int code = EX_OK;

	if (geteuid() != 0 || stat(folder, &st) < 0 || st.st_uid == 0)
		return EX_OK;
	owner = cli_owner_name(folder);
	if (!cli_switch_user(owner)) {
		cli_error(q->verb, "can't become %s, who owns %s", owner,
			  folder);
		code = EX_NOPERM;
	}
	free(owner);
	return code;
}

/*
 * Locks the folder of the keys, so that one run goes at a time. The lock lasts
 * as long as the process. Returns an exit code.
 */
static int lock_keys(const struct query *q)
{
	const char *folder = q->settings.key_dir;
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		cli_error(q->verb, "can't open %s: %s", folder,
			  strerror(errno));
		return EX_CONFIG;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return EX_OK;
	cli_error(q->verb, "%s",
		  errno == EWOULDBLOCK ? "another run is active"
				       : strerror(errno));
	close(fd);
	return EX_TEMPFAIL;
}

/*
 * Checks that each key fits into a header. Control characters would end it.
 */
static int check_keys(const struct query *q, const struct secret_set *keys)
{
	for (size_t i = 0; i < keys->count; i++) {
		const struct secret *key = &keys->list[i];

		for (size_t k = 0; k < key->length; k++) {
			if (key->key[k] > ' ' && key->key[k] < 0x7f)
				continue;
			cli_error(
				q->verb,
				"%s/%s is not a key: it contains a space or a "
				"character that is not printable ASCII",
				q->settings.key_dir, key->name);
			return EX_CONFIG;
		}
	}
	return EX_OK;
}

static int run_with(struct query *q, const struct options *o,
		    const struct secret_set *keys)
{
	struct reconcile r = { .query = q,
			       .keys = keys,
			       .task = o->task,
			       .wait = o->wait,
			       .dry_run = o->dry_run };
	const char *base = o->api ? o->api : q->settings.api;
	char reason[256];
	int code = check_keys(q, keys);

	if (code != EX_OK)
		return code;
	r.api = api_open(base, o->cacert, o->deadline, reason, sizeof(reason));
	if (!r.api) {
		cli_error(q->verb, "can't use %s '%s': %s",
			  o->api ? "--api" : "HUMCLI_WEBHOOK_API", base,
			  reason);
		return o->api ? EX_USAGE : EX_CONFIG;
	}
	code = query_connect(q);
	if (code == EX_OK)
		code = reconcile_run(&r);
	api_close(r.api);
	return code;
}

/* Reads the keys by the rules for secrets, and runs. */
static int run_with_keys(struct query *q, const struct options *o)
{
	/* Borrowed from q->settings, so this is not for settings_free(). */
	struct settings places = { .secret_dir = q->settings.key_dir,
				   .secret_dir_given = true,
				   .credentials_dir =
					   q->settings.credentials_dir };
	const struct secret_set *set = NULL;
	struct buf errors = { 0 };
	struct secrets *keys = secrets_open(&places, &errors);
	int code;

	if (keys)
		set = secrets_acquire(keys);
	if (set && set->count) {
		code = run_with(q, o, set);
	} else if (errors.length && !strstr(errors.data, "no secret")) {
		code = cli_config_errors(q->verb, &errors);
	} else {
		cli_error(q->verb,
			  "%s holds no key; put each agent's API key into a "
			  "file there, named like the agent's secret",
			  q->settings.key_dir);
		code = EX_CONFIG;
	}
	if (keys) {
		secrets_release(keys, set);
		secrets_close(keys);
	}
	buf_free(&errors);
	return code;
}

static int reconcile(const struct verb *v, const struct options *o)
{
	struct query q;
	int code = query_load(&q, v);

	if (code == EX_OK && !q.settings.key_dir) {
		cli_error(v, "HUMCLI_WEBHOOK_KEY_DIR is not set; it names the "
			     "folder of the API keys, see "
			     "humcli-webhook.conf(5)");
		code = EX_CONFIG;
	}
	if (code == EX_OK)
		code = become_owner(&q);
	if (code == EX_OK)
		code = lock_keys(&q);
	if (code == EX_OK)
		code = run_with_keys(&q, o);
	query_close(&q);
	return code;
}

/* Reads a duration in ms. Returns false if a fault was reported. */
static bool read_duration(const struct verb *v, const char *name,
			  const char *text, int64_t *ms)
{
	int64_t us;

	if (!parse_duration(text, &us) || us / 1000 > 86400000) {
		(void)cli_usage_error(v,
				      "--%s '%s' is not a duration up to 24h, "
				      "such as 5s, 500ms, 10min or 1h",
				      name, text);
		return false;
	}
	*ms = us / 1000;
	return true;
}

int cmd_reconcile(const struct verb *v, int argc, char **argv)
{
	const char *wait = "10s", *timeout = "5min";
	struct options o = { 0 };
	const struct cli_option options[] = {
		{ "dry-run", NULL, &o.dry_run, NULL,
		  "record nothing; exit 1 if an event is missing" },
		{ "task", &o.task, NULL, "ID", "compare this task alone" },
		{ "api", &o.api, NULL, "URL",
		  "ask this API (default: HUMCLI_WEBHOOK_API)" },
		{ "wait", &wait, NULL, "DURATION",
		  "pause for this time before the second look (default: 10s)" },
		{ "timeout", &timeout, NULL, "DURATION",
		  "send no request after this time (default: 5min)" },
		{ "cacert", &o.cacert, NULL, "FILE",
		  "trust the certificates in this PEM file" },
	};
	int64_t limit;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!read_duration(v, "wait", wait, &o.wait) ||
	    !read_duration(v, "timeout", timeout, &limit))
		return EX_USAGE;
	if (o.task && !*o.task)
		return cli_usage_error(v, "--task is empty");
	o.deadline = monotonic_ms() + limit;
	return reconcile(v, &o);
}
