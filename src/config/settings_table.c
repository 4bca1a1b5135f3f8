/*
 * Owns the table of settings, and the form of a value of each type. Must not
 * know files and variables: settings.c reads those.
 */
#include "config/settings_table.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/parse.h"

#define AT(field) offsetof(struct settings, field)

const struct settings_key settings_keys[] = {
	{ "DATABASE", "", TYPE_TEXT, AT(database), NULL, NULL },
	{ "SECRET", "", TYPE_SECRET, AT(secret), NULL, NULL },
	{ "SECRET_FILE", "", TYPE_PATH, AT(secret_file), NULL, NULL },
	{ "SECRET_DIR", "", TYPE_PATH, AT(secret_dir), NULL, NULL },
	{ "MAX_BODY", "64KiB", TYPE_SIZE, AT(max_body), "1KiB", "16MiB" },
	{ "DEADLINE", "3s", TYPE_MS, AT(deadline), "200ms", "10s" },
	{ "THREADS", "64", TYPE_COUNT, AT(threads), "1", "1024" },
	{ "IN_FLIGHT", "512", TYPE_COUNT, AT(in_flight), "1", "65536" },
	{ "BATCH", "256", TYPE_COUNT, AT(batch), "1", "4096" },
	{ "REDELIVERY_WINDOW", "10min", TYPE_US, AT(redelivery_window), "0s",
	  "168h" },
	{ "IDLE_DISCONNECT", "60s", TYPE_MS, AT(idle_disconnect), "1s", "24h" },
	{ "SPOOL", "$(localstatedir)/spool/humcli-webhook", TYPE_PATH,
	  AT(spool), NULL, NULL },
	{ "SPOOL_MAX", "256MiB", TYPE_SIZE, AT(spool_max), "64KiB", "1024GiB" },
	{ "KEY_DIR", "", TYPE_PATH, AT(key_dir), NULL, NULL },
	{ "API", "https://api.humcli.com/api/v1", TYPE_TEXT, AT(api), NULL,
	  NULL },
	{ "LOG", "stderr", TYPE_LOG, AT(log), NULL, NULL },
	{ "LOG_LEVEL", "info", TYPE_LEVEL, AT(log_level), NULL, NULL },
	{ "LOG_FORMAT", "logfmt", TYPE_FORMAT, AT(log_format), NULL, NULL },
};
const size_t settings_key_count = ARRAY_SIZE(settings_keys);

const struct settings_key *settings_find_key(const char *name)
{
	for (size_t i = 0; i < settings_key_count; i++) {
		if (strcmp(settings_keys[i].name, name) == 0)
			return &settings_keys[i];
	}
	return NULL;
}

bool settings_is_text(enum settings_type type)
{
	return type == TYPE_TEXT || type == TYPE_SECRET || type == TYPE_PATH ||
	       type == TYPE_LOG;
}

void *settings_field(struct settings *s, const struct settings_key *key)
{
	return (char *)s + key->offset;
}

/*
 * Reads a number of a type: bytes, a count, or us for both durations. Returns
 * true if text has its form; false otherwise.
 */
static bool parse_number(enum settings_type type, const char *text,
			 uint64_t *value)
{
	int64_t us;

	if (type == TYPE_SIZE)
		return parse_size(text, value);
	if (type == TYPE_COUNT)
		return parse_u64(text, 0, UINT_MAX, value);
	if (!parse_duration(text, &us))
		return false;
	*value = (uint64_t)us;
	return true;
}

static bool set_number(struct settings *s, const struct settings_key *key,
		       const char *text)
{
	uint64_t value, min, max;
	void *to = settings_field(s, key);

	if (!parse_number(key->type, key->min, &min) ||
	    !parse_number(key->type, key->max, &max))
		abort(); /* the table is wrong */
	if (!parse_number(key->type, text, &value) || value < min ||
	    value > max)
		return false;
	if (key->type == TYPE_SIZE)
		*(uint64_t *)to = value;
	else if (key->type == TYPE_COUNT)
		*(unsigned *)to = (unsigned)value;
	else
		*(int64_t *)to =
			(int64_t)value / (key->type == TYPE_MS ? 1000 : 1);
	return true;
}

static bool set_text(struct settings *s, const struct settings_key *key,
		     const char *text)
{
	char **to = settings_field(s, key);
	bool path = key->type == TYPE_PATH || key->type == TYPE_LOG;
	bool word = key->type == TYPE_LOG ? strcmp(text, "stderr") == 0 ||
						    strcmp(text, "syslog") == 0
					  : *text == '\0';

	/*
	 * A relative path would be beside the CGI program, where a web server
	 * may serve the file.
	 */
	if (path && !word && *text != '/')
		return false;
	if (key->type == TYPE_SECRET && *text == '\0')
		return false;
	wipe_text(to);
	*to = xstrdup(text);
	return true;
}

bool settings_set_value(struct settings *s, const struct settings_key *key,
			const char *text)
{
	if (settings_is_text(key->type))
		return set_text(s, key, text);
	if (key->type == TYPE_LEVEL)
		return log_level_parse(text, settings_field(s, key));
	if (key->type == TYPE_FORMAT)
		return log_format_parse(text, settings_field(s, key));
	return set_number(s, key, text);
}

void settings_explain_value(struct buf *errors, const struct settings_key *key)
{
	switch (key->type) {
	case TYPE_TEXT:
		break; /* every text is valid */
	case TYPE_SECRET:
		buf_printf(errors, "must not be empty\n");
		break;
	case TYPE_PATH:
		buf_printf(errors, "must be an absolute path, or empty\n");
		break;
	case TYPE_LOG:
		buf_printf(errors,
			   "must be stderr, syslog or an absolute path\n");
		break;
	case TYPE_LEVEL:
		buf_printf(errors, "must be error, warning, info or debug\n");
		break;
	case TYPE_FORMAT:
		buf_printf(errors, "must be logfmt or json\n");
		break;
	case TYPE_SIZE:
		buf_printf(errors,
			   "must be an integer with B, KiB, MiB or GiB, from "
			   "%s to %s\n",
			   key->min, key->max);
		break;
	case TYPE_COUNT:
		buf_printf(errors, "must be an integer from %s to %s\n",
			   key->min, key->max);
		break;
	case TYPE_MS:
	case TYPE_US:
		buf_printf(errors,
			   "must be a decimal with ms, s, min or h, from %s "
			   "to %s\n",
			   key->min, key->max);
		break;
	}
}
