/*
 * humcli-webhook.fcgi: finds out how it was started, reads the settings, and
 * puts gateway, handler, queue, writer and drainer together. Must not know
 * how any of them works. See humcli-webhook.fcgi(8).
 *
 * Threads as FastCGI: this one waits for signals; workers serve requests; the
 * writer records; the drainer empties the spool; the log's thread writes the
 * log. Under CGI this one serves, the writer records, and the log has a thread.
 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/parse.h"
#include "base/standard_files.h"
#include "responder/descriptors.h"
#include "responder/fcgi_connection.h"
#include "responder/gateway.h"
#include "responder/listener.h"
#include "store/database.h"
#include "store/drainer.h"
#include "store/writer.h"

/* CGI drains this much after its reply. */
enum { CGI_DRAIN_FILES = 100, CGI_DRAIN_MS = 1000 };
/* For the last lines of the log; with GATEWAY_STOP_MS less than 5 s. */
enum { LOG_STOP_MS = 500 };

struct options {
	const char *listen;
	bool check_config;
};

static const char usage[] =
	"usage: humcli-webhook.fcgi [--listen PATH|:PORT|ADDRESS:PORT]\n"
	"       humcli-webhook.fcgi --check-config | --version | --help\n";

static const char how_to_start[] =
	"humcli-webhook.fcgi is started by a web server: as FastCGI with "
	"a\nlistening socket as its standard input (Apache's mod_fcgid, "
	"lighttpd,\nspawn-fcgi, a systemd socket), or as CGI. By hand:\n\n    "
	"humcli-webhook.fcgi --listen /run/humcli-webhook/sock\n    "
	"humcli-webhook.fcgi --check-config\n\nSee humcli-webhook.fcgi(8).\n";

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "check-config", no_argument, NULL, 'c' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'l':
			o->listen = optarg;
			break;
		case 'c':
			o->check_config = true;
			break;
		case 'V':
			puts("humcli-webhook " PACKAGE_VERSION);
			exit(EX_OK);
		case 'h':
			fputs(usage, stdout);
			exit(EX_OK);
		default:
			fputs(usage, stderr);
			exit(EX_USAGE);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "unexpected argument: %s\n%s", argv[optind],
			usage);
		exit(EX_USAGE);
	}
}

/* Closes the descriptors that web servers leak into their children. */
static void close_inherited(void)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		uint64_t fd;

		if (parse_u64(e->d_name, 3, INT32_MAX, &fd) &&
		    (int)fd != dirfd(d))
			close((int)fd);
	}
	closedir(d);
}

/* Logs each line of the errors, which hold no secrets. */
static void log_errors(const struct buf *errors)
{
	const char *line;
	size_t at = 0, length;

	while ((line = buf_next_line(errors, &at, &length))) {
		if (length)
			log_message(LEVEL_ERROR, "%.*s", (int)length, line);
	}
}

/* The parts of the program. handler has pointers to the others. */
struct responder {
	struct settings settings;
	struct handler handler;
	struct writer *writer;
	struct drainer *drainer;
};

/*
 * Opens the log. Returns true; false with the fault in errors if a person asked
 * for the check. To serve, stderr has to do for a log that can't be opened,
 * because no event may be refused for it.
 */
static bool open_log(const struct settings *s, bool check, struct buf *errors)
{
	char *reason;

	if (log_open(s->log, s->log_level))
		return true;
	reason = xasprintf("log %s: %s", s->log, strerror(errno));
	if (check)
		buf_printf(errors, "%s\n", reason);
	else if (log_open("stderr", s->log_level))
		log_message(LEVEL_ERROR, "%s; logging to stderr", reason);
	free(reason);
	return !check;
}

/*
 * Opens settings, log and secrets. Returns true if it did; false with the
 * faults logged: to stderr if a person asked for the check, else to the log.
 */
static bool configure(struct responder *r, bool check)
{
	struct settings_sources places = settings_sources();
	struct buf errors = { 0 };
	bool ok = settings_load(&r->settings, &places, &errors);

	if (!check)
		log_set_format(r->settings.log_format);
	ok = ok && open_log(&r->settings, check, &errors);
	if (ok) {
		r->handler.settings = &r->settings;
		r->handler.secrets =
			check ? secrets_open(&r->settings, &errors)
			      : secrets_open_to_serve(&r->settings, &errors);
		ok = r->handler.secrets != NULL;
	}
	if ((check || !ok) &&
	    !log_open(check ? "stderr" : r->settings.fault_log,
		      r->settings.log_level))
		buf_printf(&errors, "log %s: %m\n", r->settings.fault_log);
	log_errors(&errors);
	buf_free(&errors);
	return ok;
}

static void release_config(struct responder *r)
{
	spool_close(r->handler.spool);
	secrets_close(r->handler.secrets);
	settings_free(&r->settings);
}

/*
 * Starts what keeps deliveries: spool, queue and writer. There is no queue if
 * the writer can't be started.
 */
static struct drain_source start_storage(struct responder *r, bool cgi)
{
	const struct writer_options options = { .notify_in_commit = cgi,
						.probe_while_open = !cgi,
						.warm_up = !cgi };
	struct handler *h = &r->handler;
	bool usable;

	h->spool = spool_open(r->settings.spool, r->settings.spool_max);
	usable = h->spool && spool_is_usable(h->spool);
	/* Writes a file, which would be too much for each CGI request. */
	if (usable && !cgi && !spool_accepts(h->spool))
		log_message(LEVEL_DEBUG, "the spool can't be used now");
	/* Three quarters, because some may still be reading a request. */
	h->queue = queue_new(usable, r->settings.in_flight * 3 / 4);
	if (!cgi)
		h->verify_queue = verify_queue_new(verify_queue_processors());
	if (cgi && usable)
		gateway_cgi_remember(h);
	r->writer = writer_start(&r->settings, h->queue, &options);
	if (!r->writer) {
		queue_free(h->queue);
		h->queue = NULL;
	}
	return (struct drain_source){ .spool = h->spool,
				      .secrets = h->secrets,
				      .queue = h->queue };
}

static void print_secrets(struct secrets *secrets)
{
	const struct secret_set *set = secrets_acquire(secrets);

	for (size_t i = 0; i < set->count; i++)
		printf("secret: %s (%zu byte%s)\n", set->list[i].name,
		       set->list[i].length, PLURAL_S(set->list[i].length));
	secrets_release(secrets, set);
}

/* Prints no secret and no password. */
static void print_config(const struct responder *r)
{
	const struct settings *s = &r->settings;
	struct buf database = { 0 };

	database_describe(s->database, &database);
	printf("settings file: %s\n", s->file ? s->file : "none");
	/* The length, because FcgidInitialEnv cuts values at 127 bytes. */
	printf("database: %s(%zu bytes)\n", database.data ? database.data : "",
	       strlen(s->database));
	buf_free(&database);
	printf("spool: %s\n", *s->spool ? s->spool : "none");
	printf("log: %s, level %s\n", s->log, log_level_name(s->log_level));
	print_secrets(r->handler.secrets);
}

/*
 * Reports a connection string that libpq refuses. The program starts with it
 * all the same, because events can go to the spool until it is fixed.
 */
static bool check_database(const struct responder *r)
{
	char fault[DATABASE_FAULT_SIZE];
	bool ok = database_check_conninfo(r->settings.database, fault);

	if (!ok)
		log_message(LEVEL_ERROR, "HUMCLI_WEBHOOK_DATABASE: %s", fault);
	return ok;
}

static int check_config(void)
{
	struct responder r = { 0 };
	int status = EX_CONFIG;

	if (configure(&r, true)) {
		print_config(&r);
		if (check_database(&r))
			status = EX_OK;
	}
	release_config(&r);
	return status;
}

/* Returns false if a thread is stuck, which still uses what would be freed. */
static bool stop_storage(struct responder *r, int64_t end)
{
	queue_set_stop_deadline(r->handler.queue, end);
	if (!drainer_stop(r->drainer, end) || !writer_stop(r->writer, end))
		return false;
	queue_free(r->handler.queue);
	verify_queue_free(r->handler.verify_queue);
	return true;
}

/* Bounds the requests in flight by the limit of open descriptors. */
static void limit_in_flight(struct settings *s)
{
	uint64_t limit = descriptors_raise_limit();
	unsigned allowed = descriptors_allow(limit, s->in_flight, s->threads);

	if (allowed < s->in_flight)
		log_message(LEVEL_WARNING,
			    "the limit of open files (%llu) allows %u requests "
			    "in flight, not %u; raise it (ulimit -n, systemd: "
			    "LimitNOFILE=)",
			    (unsigned long long)limit, allowed, s->in_flight);
	s->in_flight = allowed;
}

static enum gateway_end
serve(struct responder *r, const struct listener *listener, const char *where)
{
	struct drain_source source = start_storage(r, false);
	enum gateway_end ended;
	int64_t end = monotonic_ms() + GATEWAY_STOP_MS;

	if (!r->writer)
		return GATEWAY_FAILED;
	if (source.spool)
		r->drainer = drainer_start(&source);
	/* After the others, which need a thread more than the log does. */
	log_start();
	log_message(LEVEL_INFO,
		    "humcli-webhook " PACKAGE_VERSION " serves FastCGI on %s",
		    where ? where : "its standard input");
	ended = gateway_fcgi_serve(&r->handler, listener, &end);
	/* A worker that is stuck still uses the queue. */
	return ended != GATEWAY_STUCK && stop_storage(r, end) ? ended
							      : GATEWAY_STUCK;
}

static int serve_fcgi(const char *where)
{
	struct responder r = { 0 };
	struct listener listener = { .fd = STDIN_FILENO };
	int status = EX_CONFIG;
	enum gateway_end ended;

	gateway_exit_on_signals();
	if (!configure(&r, false))
		goto out;
	/* Before libfcgi installs handlers, which would swallow a signal. */
	gateway_block_signals();
	if (geteuid() == 0)
		log_message(LEVEL_WARNING,
			    "running as root; start this as a user of its own");
	limit_in_flight(&r.settings);
	status = EX_OSERR;
	if ((where && !listener_open(where, &listener)) ||
	    !fcgi_library_start())
		goto out;
	ended = serve(&r, &listener, where);
	if (ended == GATEWAY_STUCK) {
		/* A thread still uses what would be freed. */
		log_message(LEVEL_WARNING, "stopped with unfinished work: "
					   "a thread did not end in time");
		log_stop(monotonic_ms() + LOG_STOP_MS);
		_exit(EX_OK);
	}
	if (ended == GATEWAY_DONE) {
		log_message(LEVEL_INFO, "ended; all requests were answered");
		status = EX_OK;
	}
out:
	release_config(&r);
	log_stop(monotonic_ms() + LOG_STOP_MS);
	return status;
}

/* Drains what earlier requests had to spool. Call it after the reply. */
static void drain_after_reply(const struct drain_source *source)
{
	struct drain_count count;

	if (source->spool && source->queue && spool_has_work(source->spool) &&
	    queue_healthy(source->queue) &&
	    !drain(source, CGI_DRAIN_FILES, monotonic_ms() + CGI_DRAIN_MS,
		   &count))
		log_message(LEVEL_DEBUG, "spool: another process drains it");
}

_Noreturn static void serve_cgi(void)
{
	struct responder r = { 0 };
	struct drain_source source = { 0 };

	gateway_block_signals();
	gateway_cgi_start();
	if (configure(&r, false)) {
		source = start_storage(&r, true);
		log_start();
	} else {
		r.handler.settings = NULL;
	}
	gateway_cgi_serve(&r.handler);
	drain_after_reply(&source);
	log_stop(monotonic_ms() + LOG_STOP_MS);
	/* Not exit(), because the writer can be stuck in a name look-up. */
	_exit(EX_OK);
}

int main(int argc, char **argv)
{
	struct options o = { 0 };

	/* Hosts limit the address space, of which each arena takes 64 MiB. */
	mallopt(M_ARENA_MAX, 2);
	/* A write beyond the limit of file sizes fails, and does not end us. */
	if (!standard_files_reserve() || signal(SIGXFSZ, SIG_IGN) == SIG_ERR ||
	    signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return EX_OSERR;
	/* The modes of spool, log and socket do not depend on who starts us. */
	umask(077);
	/*
	 * Without its options: a web server makes arguments of a query without
	 * a '=' (RFC 3875, 4.4), so anybody could choose them.
	 */
	if (gateway_cgi_is_started() && !gateway_fcgi_is_started()) {
		close_inherited();
		serve_cgi();
	}
	parse_options(argc, argv, &o);
	if (o.check_config)
		return check_config();
	close_inherited();
	if (o.listen || gateway_fcgi_is_started())
		return serve_fcgi(o.listen);
	fputs(how_to_start, stderr);
	return EX_USAGE;
}
