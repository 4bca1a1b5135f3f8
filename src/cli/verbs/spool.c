/*
 * spool: lists the spool, drains it, or moves failed files back. It runs as the
 * spool's owner, and root becomes that user. A drain uses the responder's own
 * drainer and writer, and waits for another process that drains.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/program.h"
#include "cli/progress.h"
#include "cli/query.h"
#include "cli/table.h"
#include "config/secrets.h"
#include "config/settings.h"
#include "store/drain.h"
#include "store/writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TURN_MS = 10000, /* to wait for another process that drains */
	LOOK_MS = 100,
	END_MS = 5000 /* for the last notifications to be sent */
};

struct job {
	const struct verb *verb;
	struct settings settings;
	struct spool *spool;
	struct query_form form;
	char **names; /* the operands; NULL at the end */
};

/* The last column is there only if the database refused a file. */
static const char *const titles[] = { "received", "folder", "size", "secret",
				      "status",	  "task",   "name", "refused" };

static void add_spooled(struct table *t, const struct spooled *s)
{
	char size[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)s->size);
	table_add_cell(t, s->received);
	if (strcmp(s->folder, "failed") == 0)
		table_add_wrong(t, s->folder);
	else
		table_add_cell(t, s->folder);
	table_add_cell(t, size);
	table_add_cell(t, s->secret);
	table_add_cell(t, s->status);
	table_add_cell(t, s->task_id);
	table_add_cell(t, s->name);
	if (t->columns == ARRAY_SIZE(titles))
		table_add_wrong(t, s->refused);
}

/* Tells how often the database refused a file, and why; NULL if it did not. */
static char *describe_refusal(const struct job *j, const char *name)
{
	struct spool_refusal note;
	char *text;

	if (!spool_refusal_read(j->spool, name, &note))
		return NULL;
	text = xasprintf("%u times: %s", note.attempts, note.reason);
	free(note.reason);
	return text;
}

static void print_json(const struct spooled *s)
{
	char *line = json_spool_line(s);

	puts(line);
	free(line);
}

/* Lists a file; one that is gone by now is passed over. */
static void list_item(const struct job *j, struct table *t,
		      enum spool_folder folder, const struct spool_item *item)
{
	char received[TIME_TEXT_SIZE];
	struct spool_file f;
	struct delivery *d = delivery_new();
	enum spool_read got = spool_read(j->spool, folder, item->name, &f);
	struct spooled s = { .name = item->name,
			     .folder = folder == SPOOL_NEW ? "new" : "failed",
			     .received = received,
			     .size = item->size };
	char *refused = folder == SPOOL_NEW ? describe_refusal(j, item->name)
					    : NULL;

	s.refused = refused;
	format_time(item->mtime, received);
	if (got == SPOOL_READ_OK) {
		format_time(f.entry.received_at, received);
		s.secret = f.entry.secret_name;
		if (delivery_parse(d, xstrndup(f.entry.body, f.entry.length),
				   f.entry.length) == EVENT_OK) {
			s.task_id = d->event.task_id;
			s.status = d->event.status;
		}
	}
	if (got != SPOOL_READ_GONE && j->form.json)
		print_json(&s);
	else if (got != SPOOL_READ_GONE)
		add_spooled(t, &s);
	free(refused);
	spool_file_free(&f);
	delivery_unref(d);
}

/* Returns true if the database refused a file of the spool. */
static bool any_refused(const struct job *j)
{
	struct spool_list notes;
	bool any = spool_list(j->spool, SPOOL_REFUSED, &notes) && notes.count;

	spool_list_free(&notes);
	return any;
}

static int list_folder(const struct job *j, struct table *t,
		       enum spool_folder folder)
{
	struct spool_list items;

	if (!spool_list(j->spool, folder, &items)) {
		cli_error(j->verb, "can't read the spool: %s", strerror(errno));
		return EX_IOERR;
	}
	for (size_t k = 0; k < items.count; k++)
		list_item(j, t, folder, &items.items[k]);
	spool_list_free(&items);
	return EX_OK;
}

static int list(void *context)
{
	const struct job *j = context;
	struct table t = { 0 };
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(titles) - !any_refused(j); i++)
		table_add_column(&t, titles[i]);
	code = list_folder(j, &t, SPOOL_NEW);
	if (code == EX_OK)
		code = list_folder(j, &t, SPOOL_FAILED);
	if (!j->form.json)
		table_print(&t, j->form.wide);
	table_free(&t);
	return code;
}

/*
 * Drains once no other process drains. Returns false with errno set:
 * EWOULDBLOCK if one drains for too long.
 */
static bool drain_in_turn(const struct drain_source *source,
			  struct drain_count *count)
{
	int64_t until = monotonic_ms() + TURN_MS;

	while (!drain(source, SIZE_MAX, 0, count)) {
		if (errno != EWOULDBLOCK || monotonic_ms() >= until)
			return false;
		(void)poll(NULL, 0, LOOK_MS);
	}
	return true;
}

static int drain_all(const struct job *j, const struct drain_source *source)
{
	struct drain_count sum = { 0 };
	int code = EX_OK;
	bool again = true;

	while (again) {
		struct drain_count count;
		bool drained = drain_in_turn(source, &count);
		bool busy = errno == EWOULDBLOCK;

		progress_clear(source->progress_context);
		if (!drained) {
			cli_error(j->verb, "can't drain the spool: %s",
				  busy ? "another process drains it"
				       : strerror(errno));
			code = busy ? EX_TEMPFAIL : EX_IOERR;
			break;
		}
		sum.recorded += count.recorded;
		sum.moved_to_failed += count.moved_to_failed;
		sum.deferred = count.deferred;
		sum.database_unavailable = count.database_unavailable;
		/* More files may have been spooled meanwhile. */
		again = count.recorded && !count.deferred &&
			!count.database_unavailable;
	}
	if (sum.database_unavailable)
		code = EX_UNAVAILABLE;
	else if (sum.deferred)
		code = EX_TEMPFAIL;
	printf("%zu recorded, %zu moved to failed/, %zu left\n", sum.recorded,
	       sum.moved_to_failed, sum.deferred);
	if (code == EX_UNAVAILABLE)
		cli_error(
			j->verb,
			"the database records no events now: try again later, "
			"and see humcli-webhook doctor");
	return code;
}

static void show_progress(void *context, size_t done, size_t total)
{
	struct progress *p = context;

	p->total = total;
	progress_show(p, done);
}

static int drain_verb(void *context)
{
	static const struct writer_options options;
	const struct job *j = context;
	struct buf errors = { 0 };
	struct progress progress;
	struct drain_source source = { .spool = j->spool,
				       .ignore_pauses = true,
				       .progress = show_progress,
				       .progress_context = &progress };
	struct writer *writer;
	int code;

	/* The sum is on stdout; cron mails what is on stderr. */
	if (!log_open("stderr", LEVEL_WARNING))
		return EX_OSERR;
	source.secrets = secrets_open_to_serve(&j->settings, &errors);
	code = source.secrets ? EX_OK : cli_config_errors(j->verb, &errors);
	buf_free(&errors);
	if (!source.secrets)
		return code;
	source.queue = queue_new(false, 0);
	writer = writer_start(&j->settings, source.queue, &options);
	progress_begin(&progress, "files", 0);
	code = writer ? drain_all(j, &source) : EX_OSERR;
	if (writer && !writer_stop(writer, monotonic_ms() + END_MS)) {
		/* The writer is stuck and still uses what would be freed. */
		fflush(stdout);
		_exit(code);
	}
	queue_free(source.queue);
	secrets_close(source.secrets);
	return code;
}

static bool retry(const struct job *j, const char *name)
{
	if (spool_retry(j->spool, name))
		return true;
	cli_error(j->verb, "%s: %s", name,
		  errno == EEXIST ? "it is waiting in new/ already"
				  : strerror(errno));
	return false;
}

static int retry_failed(void *context)
{
	const struct job *j = context;
	struct spool_list items;
	size_t moved = 0, tried = 0;

	if (!spool_list(j->spool, SPOOL_FAILED, &items)) {
		cli_error(j->verb, "can't read the spool: %s", strerror(errno));
		return EX_IOERR;
	}
	for (char **name = j->names; *name; name++, tried++)
		moved += retry(j, *name);
	for (size_t i = 0; !*j->names && i < items.count; i++, tried++)
		moved += retry(j, items.items[i].name);
	spool_list_free(&items);
	printf("%zu moved back, to be recorded\n", moved);
	return moved == tried ? EX_OK : EXIT_NEGATIVE;
}

static const struct cli_action actions[] = {
	{ "list", list, 0, "json wide" },
	{ "drain", drain_verb, 0, "" },
	{ "retry-failed", retry_failed, INT_MAX, "" },
};

/*
 * Becomes the spool's owner if we are root, because the responder could not use
 * a file that root makes. Returns false if we are another user, which is
 * reported.
 */
static bool become_owner(const struct job *j, const struct stat *st)
{
	char *owner;
	bool done;

	if (st->st_uid == geteuid())
		return true;
	owner = cli_owner_name(j->settings.spool);
	done = geteuid() == 0 && cli_switch_user(owner);
	if (!done)
		cli_error(j->verb, "%s belongs to %s; run: sudo %s spool ...",
			  j->settings.spool, owner, cli_program_name());
	free(owner);
	return done;
}

static int open_and_run(struct job *j, const struct cli_action *a)
{
	struct stat st;
	int code;

	if (!*j->settings.spool) {
		cli_error(j->verb,
			  "no spool is set: HUMCLI_WEBHOOK_SPOOL is empty");
		return EX_CONFIG;
	}
	if (stat(j->settings.spool, &st) < 0) {
		/* The responder makes the folder when it starts first. */
		if (errno == ENOENT)
			cli_error(j->verb, "spool %s does not exist yet",
				  j->settings.spool);
		else
			cli_error(j->verb, "%s: %s", j->settings.spool,
				  strerror(errno));
		return errno == ENOENT ? EX_OK : EX_NOPERM;
	}
	if (!become_owner(j, &st))
		return EX_NOPERM;
	j->spool = spool_open(j->settings.spool, j->settings.spool_max);
	if (!spool_is_usable(j->spool))
		code = EX_NOPERM;
	else
		code = a->run(j);
	spool_close(j->spool);
	return code;
}

static int load_and_run(struct job *j, const struct cli_action *a)
{
	int code = cli_load_settings(j->verb, &j->settings);

	if (code == EX_OK)
		code = open_and_run(j, a);
	settings_free(&j->settings);
	return code;
}

int cmd_spool(const struct verb *v, int argc, char **argv)
{
	struct job j = { .verb = v };
	const struct cli_option options[] = { QUERY_FORM_OPTIONS(j.form) };
	const struct cli_action *action;
	int code;

	action = cli_choose_action(v, &argc, &argv, options,
				   ARRAY_SIZE(options), actions,
				   ARRAY_SIZE(actions), &code);
	if (!action)
		return code;
	j.names = argv;
	return load_and_run(&j, action);
}
