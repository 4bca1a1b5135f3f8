#include "cli.h"
#include "database.h"
#include "json.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/*
 * Between two attempts to connect, doubled each time; half of it is drawn,
 * so that many listeners do not come back at once.
 */
enum { FIRST_PAUSE_MS = 250, LONGEST_PAUSE_MS = 30000, ATTACH_MS = 5000 };

struct listener {
	struct database *db;
	int signals; /* SIGTERM and SIGINT, by signalfd() */
	int64_t end; /* clock_ms() */
};

enum state {
	READY,
	LOST, /* no connection */
	STOPPED, /* by a signal */
	OVER /* the time is */
};

/* Until the database has something, or the limit. */
static enum state wait_until(const struct listener *l, int64_t limit)
{
	struct pollfd fds[2] = { { .fd = l->signals, .events = POLLIN } };

	limit = limit < l->end ? limit : l->end;
	fds[1].fd = database_socket(l->db, &fds[1].events);
	do {
		int64_t left = limit - clock_ms();
		int n;

		left = left < 0 ? 0 : left > 60000 ? 60000 : left;
		n = poll(fds, 2, (int)left);
		if (n > 0)
			return fds[0].revents ? STOPPED : READY;
	} while (clock_ms() < limit);
	return OVER;
}

static enum state wait_listening(const struct listener *l, int64_t limit)
{
	enum database_news news = DATABASE_NOTHING;
	struct database_result result;

	while (news == DATABASE_NOTHING) {
		enum state s = wait_until(l, limit);

		if (s == OVER && clock_ms() < l->end)
			return LOST;
		if (s != READY)
			return s;
		if (!database_receive(l->db))
			return LOST;
		news = database_next(l->db, &result);
	}
	if (news == DATABASE_LOST)
		return LOST;
	if (!result.committed) {
		log_message(LEVEL_ERROR, "can't LISTEN: %s", result.message);
		return LOST;
	}
	log_message(LEVEL_INFO, "listening on humcli_events");
	return READY;
}

static enum state attach(struct listener *l)
{
	int64_t limit = clock_ms() + ATTACH_MS;
	enum state s = LOST;

	if (database_connect(l->db, limit) && database_send_listen(l->db) &&
	    database_flush(l->db))
		s = wait_listening(l, limit);
	if (s != READY)
		database_disconnect(l->db);
	return s;
}

static enum state attach_again(struct listener *l)
{
	int64_t pause = FIRST_PAUSE_MS;
	enum state s = LOST;

	log_message(LEVEL_WARNING,
		    "the connection is lost; what is notified meanwhile is "
		    "missed");
	database_disconnect(l->db);
	while (s == LOST) {
		int64_t drawn = pause / 2 + now_us() % (pause / 2);

		s = wait_until(l, clock_ms() + drawn);
		if (s == OVER && clock_ms() < l->end)
			s = attach(l);
		pause = pause < LONGEST_PAUSE_MS / 2 ? pause * 2
						     : LONGEST_PAUSE_MS;
	}
	return s;
}

/* All that have come, at most *left, which goes down by them. */
static bool print_notifications(struct listener *l, uint64_t *left)
{
	char *payload;

	while (*left && (payload = database_notification(l->db))) {
		char *line = json_line(payload);
		bool written = puts(line) >= 0 && fflush(stdout) == 0;

		free(line);
		free(payload);
		if (!written)
			return false;
		(*left)--;
	}
	return true;
}

static int listen_on(struct listener *l, uint64_t count)
{
	uint64_t left = count ? count : UINT64_MAX;
	enum state s = attach(l);

	if (s == LOST)
		return EX_UNAVAILABLE;
	while (s == READY) {
		if (!print_notifications(l, &left))
			return EX_IOERR;
		if (left == 0)
			return EX_OK;
		s = wait_until(l, INT64_MAX);
		if (s == READY && !database_receive(l->db))
			s = attach_again(l);
	}
	return s == OVER && count ? EXIT_NEGATIVE : EX_OK;
}

/* From here on the two signals wait to be read. */
static int take_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int load_and_listen(const struct verb *v, struct listener *l,
			   uint64_t count)
{
	struct settings_places places = settings_places();
	struct settings settings = { 0 };
	struct buf errors = { 0 };
	int code;

	l->signals = take_signals();
	if (l->signals < 0) {
		cli_say(v, "can't wait for signals");
		return EX_OSERR;
	}
	if (settings_load(&settings, &places, &errors)) {
		l->db = database_new(settings.database);
		code = listen_on(l, count);
		database_free(l->db);
	} else {
		code = cli_faults(v, &errors);
	}
	buf_free(&errors);
	settings_free(&settings);
	close(l->signals);
	return code;
}

int cmd_listen(const struct verb *v, int argc, char **argv)
{
	const char *count_text = NULL, *timeout_text = NULL;
	const struct cli_option options[] = {
		{ "count", &count_text, NULL },
		{ "timeout", &timeout_text, NULL },
	};
	struct listener l = { .end = INT64_MAX };
	uint64_t count = 0;
	int64_t timeout;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (count_text && !parse_u64(count_text, 1, UINT64_MAX, &count))
		return cli_usage(v, "--count '%s' is not a number from 1 on",
				 count_text);
	if (timeout_text) {
		if (!parse_duration(timeout_text, &timeout))
			return cli_usage(v,
					 "--timeout '%s' is not a duration "
					 "such as 5s, 500ms, 10min or 1h",
					 timeout_text);
		l.end = clock_ms() + timeout / 1000;
	}
	return load_and_listen(v, &l, count);
}
