/*
 * listen: reads the options, then delivers the events of a subscription or
 * pool (cli/consumer/), or prints the notifications themselves, without a
 * subscription. Signals are read from a signalfd, so that every wait ends.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/consumer/consumer.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/session.h"
#include "cli/statuses.h"
#include "config/settings.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	LISTEN_MS = 5000,
	LONGEST_WAIT_MS = 60000,
	LEASE_MS = 60000,
	LEAST_LEASE_MS = 1000,
	LONGEST_LEASE_MS = 24 * 60 * 60 * 1000
};

/* Prints the notifications themselves, without a subscription. */
struct listener {
	struct session *session;
	int signals; /* SIGTERM and SIGINT, by signalfd() */
	int64_t end; /* monotonic_ms() */
	uint64_t left; /* notifications to print */
	uint64_t printed;
};

static bool start_listening(struct listener *l)
{
	if (!session_open_lasting(l->session))
		return false;
	if (session_query(l->session, "LISTEN humcli_events", NULL, 0,
			  LISTEN_MS, NULL) != QUERY_OK) {
		log_message(LEVEL_ERROR, "can't LISTEN: %s",
			    session_message(l->session));
		session_close(l->session);
		return false;
	}
	session_reset_backoff(l->session);
	log_message(LEVEL_INFO, "listening on humcli_events");
	return true;
}

/* Writes a line. Returns as output_write_all(). */
static bool write_line(const struct listener *l, const char *line)
{
	struct buf text = { 0 };
	bool written;

	buf_printf(&text, "%s\n", line);
	written = output_write_all(text.data, text.length, l->end, l->signals);
	buf_free(&text);
	return written;
}

/*
 * Prints the notifications that have arrived, l->left at most. Returns as
 * write_line() does.
 */
static bool print_notifications(struct listener *l)
{
	struct notification n;

	while (l->left && session_notification(l->session, &n)) {
		char *line = json_notification(n.payload);
		bool written = write_line(l, line);

		free(line);
		notification_free(&n);
		if (!written)
			return false;
		l->left--;
		l->printed++;
	}
	return true;
}

/* Waits for a notification. False: told to stop, or the time is over. */
static bool wait_for_news(struct listener *l)
{
	struct pollfd fds[2] = { { .fd = l->signals, .events = POLLIN },
				 { .fd = session_socket(l->session),
				   .events = POLLIN } };
	bool open = session_is_open(l->session);
	int64_t limit = open ? INT64_MAX : session_retry_at(l->session);
	int64_t left = (limit < l->end ? limit : l->end) - monotonic_ms();

	left = left < 0 ? 0 : left > LONGEST_WAIT_MS ? LONGEST_WAIT_MS : left;
	if (poll(fds, 2, (int)left) > 0 && fds[0].revents)
		return false;
	if (open && fds[1].revents && !session_receive(l->session))
		log_message(
			LEVEL_WARNING,
			"connection lost; notifications are missed until it "
			"is back");
	return monotonic_ms() < l->end;
}

/* Returns the exit code for a line that was not written, by errno. */
static int write_exit_code(bool counted)
{
	if (errno == EINTR)
		return EX_OK;
	if (errno == ETIME)
		return counted ? EXIT_NEGATIVE : EX_OK;
	log_message(LEVEL_ERROR, "can't write to stdout: %s", strerror(errno));
	return EX_IOERR;
}

static int print_until_end(struct listener *l, bool counted)
{
	if (!start_listening(l))
		return session_stop_requested(l->session) ? EX_OK
							  : EX_UNAVAILABLE;
	do {
		if (!session_is_open(l->session) && !start_listening(l))
			continue;
		if (!print_notifications(l))
			return write_exit_code(counted);
		if (l->left == 0)
			return EX_OK;
	} while (wait_for_news(l));
	return counted && monotonic_ms() >= l->end ? EXIT_NEGATIVE : EX_OK;
}

struct options {
	const char *subscription, *pool;
	const char *concurrency, *lease;
	uint64_t count; /* 0: no end */
	int64_t end;
	struct consumer_options consumer;
	struct worker_name {
		char text[HOST_NAME_MAX + 24];
	} worker;
};

/* Names the worker in the pool HOST:PID. */
static void name_worker(struct worker_name *w)
{
	char host[HOST_NAME_MAX + 1] = "";

	if (gethostname(host, sizeof(host) - 1) < 0)
		snprintf(host, sizeof(host), "localhost");
	snprintf(w->text, sizeof(w->text), "%s:%ld", host, (long)getpid());
}

static int print_notified(const struct options *o, const char *conninfo,
			  int signals)
{
	struct listener l = {
		.session = session_new(conninfo, true, signals),
		.signals = signals,
		.end = o->end,
		.left = o->count ? o->count : UINT64_MAX,
	};
	const struct sigaction reap = { .sa_handler = SIG_IGN };
	int code;

	/* As process 1 of a container: without a command, orphans only. */
	if (sigaction(SIGCHLD, &reap, NULL) < 0)
		log_message(LEVEL_WARNING, "can't ignore SIGCHLD: %s",
			    strerror(errno));
	code = print_until_end(&l, o->count != 0);
	log_message(LEVEL_INFO, "ended; %llu notification%s printed",
		    (unsigned long long)l.printed, PLURAL_S(l.printed));
	session_free(l.session);
	return code;
}

static int load_and_listen(const struct verb *v, struct options *o)
{
	struct settings settings = { 0 };
	int signals = cli_take_signals();
	char *statuses;
	int code;

	if (signals < 0) {
		cli_error(v, "can't wait for signals");
		return EX_OSERR;
	}
	statuses = cli_statuses(v, o->consumer.source.statuses);
	o->consumer.source.statuses = statuses;
	code = cli_load_settings(v, &settings);
	if (code == EX_OK && o->consumer.source.name) {
		o->consumer.conninfo = settings.database;
		o->consumer.count = o->count;
		o->consumer.end = o->end;
		name_worker(&o->worker);
		if (o->pool)
			o->consumer.source.worker = o->worker.text;
		code = consume(&o->consumer, signals);
	} else if (code == EX_OK) {
		code = print_notified(o, settings.database, signals);
	}
	settings_free(&settings);
	free(statuses);
	close(signals);
	return code;
}

/* Refuses options that do not go together. */
static int check(const struct verb *v, const struct options *o)
{
	const struct consumer_options *c = &o->consumer;
	const char *from = c->source.from;

	if (o->subscription && o->pool)
		return cli_usage_error(
			v, "give --subscription or --pool, not both");
	if ((o->concurrency || o->lease) && !o->pool)
		return cli_usage_error(
			v, "--concurrency and --lease are for --pool");
	if (!c->source.name &&
	    (from || c->source.statuses || c->source.secrets || c->command ||
	     c->once || c->poll_only))
		return cli_usage_error(v,
				       "--subscription or --pool is missing");
	if (from && strcmp(from, "now") != 0 && strcmp(from, "beginning") != 0)
		return cli_usage_error(v, "--from '%s' is not now or beginning",
				       from);
	return EX_OK;
}

static int read_pool(const struct verb *v, struct options *o)
{
	struct consumer_options *c = &o->consumer;
	uint64_t number = 1;
	int64_t us = LEASE_MS * INT64_C(1000);

	if (o->concurrency && !parse_u64(o->concurrency, 1, FETCH_MAX, &number))
		return cli_usage_error(
			v,
			"--concurrency '%s' is not a number from 1 to "
			"%d",
			o->concurrency, FETCH_MAX);
	if (o->lease &&
	    (!parse_duration(o->lease, &us) || us / 1000 < LEAST_LEASE_MS ||
	     us / 1000 > LONGEST_LEASE_MS))
		return cli_usage_error(
			v,
			"--lease '%s' is not a duration from 1s to "
			"24h",
			o->lease);
	c->concurrency = number;
	c->source.lease_ms = us / 1000;
	return EX_OK;
}

int cmd_listen(const struct verb *v, int argc, char **argv)
{
	const char *count = NULL, *timeout = NULL;
	struct options o = { .end = INT64_MAX };
	struct consumer_options *c = &o.consumer;
	const struct cli_option options[] = {
		{ "subscription", &o.subscription, NULL, "NAME",
		  "deliver the events of this subscription, and create it if it is missing" },
		{ "pool", &o.pool, NULL, "NAME",
		  "deliver the events of this worker pool, and create it if it is missing" },
		{ "exec", &c->command, NULL, "COMMAND",
		  "run this command for each event (default: print a line)" },
		{ "concurrency", &o.concurrency, NULL, "N",
		  "handle this many events at a time, 1 to 100 (default: 1)" },
		{ "lease", &o.lease, NULL, "DURATION",
		  "hold a claim for this time unless it is extended (default: 1min)" },
		{ "from", &c->source.from, NULL, "now|beginning",
		  "start a new subscription here (default: now)" },
		{ "status", &c->source.statuses, NULL, "STATUS,...",
		  "give a new subscription these statuses (default: all)" },
		{ "secret", &c->source.secrets, NULL, "NAME,...",
		  "give a new subscription the events of these secrets (default: all)" },
		{ "once", NULL, &c->once, NULL,
		  "end when nothing is left, for cron" },
		{ "poll-only", NULL, &c->poll_only, NULL,
		  "read the table every 2 to 10 s instead of LISTEN" },
		{ "count", &count, NULL, "N",
		  "end after this many events or notifications (default: never)" },
		{ "timeout", &timeout, NULL, "DURATION",
		  "end after this time (default: never)" },
	};
	int64_t us;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (count && !parse_u64(count, 1, UINT64_MAX, &o.count))
		return cli_usage_error(
			v, "--count '%s' is not a number from 1 on", count);
	if (timeout) {
		if (!parse_duration(timeout, &us))
			return cli_usage_error(
				v,
				"--timeout '%s' is not a duration "
				"such as 5s, 500ms, 10min or 1h",
				timeout);
		o.end = monotonic_ms() + us / 1000;
	}
	c->source.name = o.pool ? o.pool : o.subscription;
	code = check(v, &o);
	if (code == EX_OK)
		code = read_pool(v, &o);
	return code == EX_OK ? load_and_listen(v, &o) : code;
}
