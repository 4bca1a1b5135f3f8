/*
 * The table of settings: their names, defaults and types. For the loader; the
 * rest of the program has struct settings.
 */
#ifndef SETTINGS_TABLE_H
#define SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/macros.h"
#include "config/settings.h"

enum settings_type {
	TYPE_TEXT,
	TYPE_SECRET, /* text with at least one character */
	TYPE_PATH, /* absolute, or empty for none */
	TYPE_LOG, /* stderr, syslog or an absolute path */
	TYPE_LEVEL,
	TYPE_FORMAT,
	TYPE_SIZE, /* bytes */
	TYPE_COUNT,
	TYPE_MS, /* a duration kept in ms */
	TYPE_US /* a duration kept in us */
};

/*
 * One row for each setting, in the order of the manual. The loader reads by
 * this table, and tests/check-docs compares the manual and the sample file with
 * it.
 */
struct settings_key {
	const char *name; /* without HUMCLI_WEBHOOK_ */
	const char *default_text; /* without a settings file in the home */
	enum settings_type type;
	size_t offset; /* in struct settings */
	const char *min, *max; /* of numbers, written as in the settings file */
};
extern const struct settings_key settings_keys[];
extern const size_t settings_key_count;

/* Returns the row of a name; NULL if there is none. */
const struct settings_key *settings_find_key(const char *name) MUST_CHECK;
/* Returns true if the setting is a text that struct settings points to. */
bool settings_is_text(enum settings_type type) MUST_CHECK;
/* Returns true if text is a valid value, which s then has; false otherwise. */
bool settings_set_value(struct settings *s, const struct settings_key *key,
			const char *text) MUST_CHECK;
/* Returns where s has the value of a key. */
void *settings_field(struct settings *s,
		     const struct settings_key *key) MUST_CHECK;
/*
 * Says what a valid value looks like. Never shows the value, because it may be
 * a secret.
 */
void settings_explain_value(struct buf *errors, const struct settings_key *key);

#endif
