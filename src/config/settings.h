/*
 * The settings (humcli-webhook.conf(5)): HUMCLI_WEBHOOK_K=value from the
 * environment or from one file, read once at the start into one struct
 * that nobody writes to afterwards.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/macros.h"

struct settings {
	char *database; /* conninfo or URI; "" leaves it to libpq */
	char *secret; /* NULL if none */
	char *secret_file; /* NULL if none */
	char *secret_dir; /* NULL if none */
	uint64_t max_body; /* bytes */
	int64_t deadline; /* ms */
	unsigned threads;
	unsigned in_flight; /* requests */
	unsigned batch; /* events */
	int64_t redelivery_window; /* us */
	int64_t idle_disconnect; /* ms */
	char *spool; /* "" for none */
	uint64_t spool_max; /* bytes */
	char *log; /* what log_open() takes */
	enum log_level log_level;

	char *file; /* the settings file that was read, NULL if none */
	bool secret_dir_given; /* false: a default, which need not exist */
	char *credentials_dir; /* systemd's; NULL if none */
};

/* Where settings are looked for; the programs pass settings_sources(). */
struct settings_sources {
	char *const *environment; /* "NAME=value" strings, NULL at the end */
	const char *sysconfdir;
	const char *localstatedir;
	const char *home; /* by getpwuid(), NULL if the user has none */
};

/*
 * The places of this process. The home is getpwuid()'s own copy: load the
 * settings before anything else calls that.
 */
struct settings_sources settings_sources(void);

/*
 * Reads the settings. False: every fault found stands in errors, a line
 * each with file and line number or the variable's name, and s is only fit
 * for settings_free(). Warnings (a file on tmpfs that others can read, a
 * sysconfdir file passed over) go to the log.
 */
bool settings_load(struct settings *s, const struct settings_sources *places,
		   struct buf *errors) MUST_CHECK;
/* Frees what it holds, secrets overwritten. */
void settings_free(struct settings *s);

enum settings_type {
	TYPE_TEXT,
	TYPE_SECRET, /* text that is not empty */
	TYPE_PATH, /* absolute, or empty for none */
	TYPE_LOG, /* stderr, syslog or an absolute path */
	TYPE_LEVEL,
	TYPE_SIZE, /* bytes */
	TYPE_COUNT,
	TYPE_MS, /* a duration kept in ms */
	TYPE_US /* a duration kept in us */
};

/*
 * One row a key, in the order of the manual: what the loader goes by, what
 * --check-config prints, and what tests/check-docs holds the manual and
 * the sample file against.
 */
struct settings_key {
	const char *name; /* without HUMCLI_WEBHOOK_ */
	const char *default_text; /* the default where no file is in the home */
	enum settings_type type;
	size_t offset; /* in struct settings */
	const char *min, *max; /* of numbers, written as in the file */
};
extern const struct settings_key settings_keys[];
extern const size_t settings_key_count;

#endif
