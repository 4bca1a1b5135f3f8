/*
 * The settings of humcli-webhook.conf(5): HUMCLI_WEBHOOK_KEY=value, from the
 * environment or from lines of one file. They are read once at the start; the
 * struct does not change afterwards.
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
	char *key_dir; /* of API keys, for reconcile alone; NULL if none */
	char *api; /* the URL of HumCLI's API */
	char *log; /* what log_open() takes */
	enum log_level log_level;
	enum log_format log_format;

	/*
	 * The log for the reasons why the program can't start: log, but the
	 * log in the home if there is no settings file at all.
	 */
	char *fault_log;
	char *file; /* the settings file that was read; NULL if none */
	/* false: it is a default, which need not exist */
	bool secret_dir_given;
	bool key_dir_given; /* likewise */
	char *credentials_dir; /* systemd's; NULL if none */
};

/* The places that settings_load() reads. Tests have places of their own. */
struct settings_sources {
	char *const *environment; /* strings NAME=value, NULL at the end */
	const char *sysconfdir;
	const char *localstatedir;
	const char *home; /* NULL if there is none */
};

/*
 * Returns the places of this process. home points into getpwuid()'s buffer, so
 * load the settings before another call of getpwuid().
 */
struct settings_sources settings_sources(void);

/*
 * Reads the settings into s, and logs warnings. Returns true if all are valid;
 * false otherwise, with a line for each fault in errors, which names the file
 * and line or the variable; then only fault_log and log_level may be used.
 * After both the caller calls settings_free().
 */
bool settings_load(struct settings *s, const struct settings_sources *places,
		   struct buf *errors) MUST_CHECK;
/* Frees the members of s; secrets are overwritten first. */
void settings_free(struct settings *s);

#endif
