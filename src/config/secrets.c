/*
 * Owns the active secrets, and finds out when their files change: refresh()
 * lists the files, and replaces the set if one came, changed or went.
 * secret_files.c reads the files. Knows nothing of signatures.
 *
 * Threads: every worker and the drainer call secrets_acquire(). The first that
 * finds a check due, CHECK_MS ms after the last, calls refresh(), without the
 * lock, because that takes a while with thousands of files. Meanwhile the
 * others get the old set while its check began at most USABLE_MS ms ago; else
 * they wait. A set has a reference count, so that a replaced set lives until
 * its last user releases it.
 */
#include "config/secrets.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/threads.h"
#include "config/secret_files.h"

/* A change has to take effect within 1 s. */
enum { CHECK_MS = 250, CHECK_LONGEST_MS = 500, USABLE_MS = 900 };

struct secrets {
	const struct settings *settings;
	pthread_mutex_t lock; /* over the next five, and the references */
	pthread_cond_t changed; /* refreshing is false again */
	struct secret_set *set;
	int64_t checked_at; /* when the last check began (ms, monotonic) */
	int64_t check_ms; /* from the start of a check to the next */
	bool refreshing; /* a thread is in refresh() */

	/* For the thread in refresh() alone. */
	struct secret_files scanned; /* what set was made from */
	struct secret_report logged; /* what was reported already */
	bool stable; /* all of scanned is settled */
};

static bool contains_line(const struct buf *lines, const char *line,
			  size_t length)
{
	const char *other;
	size_t at = 0, n;

	while ((other = buf_next_line(lines, &at, &n))) {
		if (n == length && memcmp(other, line, length) == 0)
			return true;
	}
	return false;
}

static void log_lines_not_in(enum log_level level, const struct buf *new,
			     const struct buf *old)
{
	const char *line;
	size_t at = 0, length;

	while ((line = buf_next_line(new, &at, &length))) {
		if (!contains_line(old, line, length))
			log_message(level, "%.*s", (int)length, line);
	}
}

/* Logs the lines that are new since the last report, and keeps this report. */
static void log_new_lines(struct secrets *s, struct secret_report *report)
{
	log_lines_not_in(LEVEL_ERROR, &report->errors, &s->logged.errors);
	log_lines_not_in(LEVEL_WARNING, &report->warnings, &s->logged.warnings);
	secret_report_free(&s->logged);
	s->logged = *report;
}

/* Drops a reference. Call without s->lock, because freeing takes a while. */
static void set_unref(struct secrets *s, struct secret_set *set)
{
	bool last;

	mutex_lock(&s->lock);
	last = --set->refcount == 0;
	mutex_unlock(&s->lock);
	if (last)
		secret_set_free(set);
}

static void replace_set(struct secrets *s, struct secret_set *set)
{
	struct secret_set *old;

	mutex_lock(&s->lock);
	old = s->set;
	s->set = set;
	mutex_unlock(&s->lock);
	set_unref(s, old);
	log_message(LEVEL_INFO, "secrets changed: %zu active secret%s",
		    set->count, PLURAL_S(set->count));
}

/*
 * Lists the files, and makes a new set if one came, changed or went. Call
 * without s->lock, and with s->refreshing set by this thread.
 */
static void refresh(struct secrets *s)
{
	struct secret_files now = { 0 };
	struct secret_report report = { 0 };
	struct secret_set *set;

	secret_files_list(&now, s->settings);
	if (s->stable && secret_files_equal(&now, &s->scanned)) {
		secret_files_free(&now);
		return;
	}
	secret_files_keep_unchanged(&now, &s->scanned);
	set = secret_files_load(s->settings, &now, &report);
	log_new_lines(s, &report);
	if (!set) {
		secret_files_free(&now);
		s->stable = false;
		return;
	}
	secret_files_free(&s->scanned);
	s->scanned = now;
	s->stable = secret_files_settled(&now);
	if (secret_set_equal(set, s->set))
		set_unref(s, set);
	else
		replace_set(s, set);
}

/*
 * Explains that an account with a folder of its own has no settings file.
 * Returns false if that is not so.
 */
static bool explain_no_file(const struct settings *s, struct buf *errors)
{
	const char *end;

	if (s->file || !s->fault_log || strcmp(s->fault_log, s->log) == 0)
		return false;
	end = strrchr(s->fault_log, '/');
	buf_printf(errors,
		   "no settings file: %.*s/humcli-webhook.conf does not "
		   "exist; create it, or run humcli-webhook init --home\n",
		   (int)(end - s->fault_log), s->fault_log);
	return true;
}

static void explain_no_secret(const struct settings *s, struct buf *errors)
{
	const char *directory = s->secret_dir;

	if (explain_no_file(s, errors))
		return;
	if (directory)
		buf_printf(errors,
			   "no secret: %s has none, and "
			   "HUMCLI_WEBHOOK_SECRET and "
			   "HUMCLI_WEBHOOK_SECRET_FILE are not set\n",
			   directory);
	else
		buf_printf(errors, "no secret: HUMCLI_WEBHOOK_SECRET_DIR, "
				   "HUMCLI_WEBHOOK_SECRET_FILE and "
				   "HUMCLI_WEBHOOK_SECRET are not set\n");
	if (!directory)
		directory = SYSCONFDIR "/humcli-webhook.secrets";
	/* No quotes in this command, because the log would escape them. */
	buf_printf(
		errors,
		"create one: (umask 077; mkdir -p %s; openssl rand -hex 32 > "
		"%s/main), readable to the user that the receiver runs "
		"as%s%s\n",
		directory, directory,
		s->secret_dir ? "" : ", and HUMCLI_WEBHOOK_SECRET_DIR=",
		s->secret_dir ? "" : directory);
}

/*
 * Reads all secrets. Returns NULL if there is none or one is invalid; with
 * skip_invalid as secrets_open_to_serve().
 */
static struct secrets *open_secrets(const struct settings *s, bool skip_invalid,
				    struct buf *errors)
{
	struct secrets *new = xcalloc(1, sizeof(*new));
	struct secret_report report = { 0 };
	bool valid, skipped;

	new->settings = s;
	mutex_init(&new->lock);
	cond_init(&new->changed);
	new->checked_at = monotonic_ms();
	new->check_ms = CHECK_MS;
	secret_files_list(&new->scanned, s);
	new->stable = secret_files_settled(&new->scanned);
	new->set = secret_files_load(s, &new->scanned, &report);
	valid = report.errors.length == 0;
	skipped = skip_invalid && !report.folder_unusable;
	if (new->set &&new->set->count && (valid || skipped)) {
		log_new_lines(new, &report);
		return new;
	}
	buf_add(errors, report.errors.data, report.errors.length);
	if (new->set && valid)
		explain_no_secret(s, errors);
	secret_report_free(&report);
	secrets_close(new);
	return NULL;
}

struct secrets *secrets_open(const struct settings *s, struct buf *errors)
{
	return open_secrets(s, false, errors);
}

struct secrets *secrets_open_to_serve(const struct settings *s,
				      struct buf *errors)
{
	return open_secrets(s, true, errors);
}

void secrets_close(struct secrets *s)
{
	if (!s)
		return;
	if (s->set)
		set_unref(s, s->set);
	secret_files_free(&s->scanned);
	secret_report_free(&s->logged);
	cond_destroy(&s->changed);
	mutex_destroy(&s->lock);
	free(s);
}

bool secrets_check_is_due(struct secrets *s)
{
	bool due;

	mutex_lock(&s->lock);
	due = monotonic_ms() - s->checked_at >= s->check_ms;
	mutex_unlock(&s->lock);
	return due;
}

const struct secret_set *secrets_acquire(struct secrets *s)
{
	struct secret_set *set;
	int64_t now = monotonic_ms();

	mutex_lock(&s->lock);
	if (now - s->checked_at >= s->check_ms && !s->refreshing) {
		s->refreshing = true;
		mutex_unlock(&s->lock);
		refresh(s);
		mutex_lock(&s->lock);
		s->refreshing = false;
		s->checked_at = now;
		/* Costly checks are made less often. */
		s->check_ms =
			min_i64(max_i64(CHECK_MS, 10 * (monotonic_ms() - now)),
				CHECK_LONGEST_MS);
		cond_broadcast(&s->changed);
	}
	while (s->refreshing && monotonic_ms() - s->checked_at >= USABLE_MS)
		cond_wait(&s->changed, &s->lock, monotonic_ms() + USABLE_MS);
	set = s->set;
	set->refcount++;
	mutex_unlock(&s->lock);
	return set;
}

void secrets_release(struct secrets *s, const struct secret_set *set)
{
	set_unref(s, (struct secret_set *)set);
}
