/*
 * Owns the forms in which a user may write statuses and times. Must not know
 * what is done with them. The list of documented statuses repeats
 * humcli.statuses, because a verb that has no database yet can't ask it.
 */
#include "cli/statuses.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const documented[] = {
	"PENDING",   "ESTIMATE_PENDING", "ACCEPTED",  "IN_PROGRESS",
	"SUBMITTED", "VERIFIED",	 "COMPLETED", "MANUAL_REVIEW",
	"DISPUTED",  "CANCELLED",
};

const char *cli_documented_status(size_t i)
{
	return i < ARRAY_SIZE(documented) ? documented[i] : NULL;
}

static const char *find_documented(const char *status)
{
	for (size_t i = 0; i < ARRAY_SIZE(documented); i++) {
		if (strcasecmp(status, documented[i]) == 0)
			return documented[i];
	}
	return NULL;
}

static void warn(const struct verb *v, const char *status)
{
	const char *like = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(documented) && !like; i++) {
		if (cli_is_like(status, documented[i]))
			like = documented[i];
	}
	cli_error(v,
		  "warning: HumCLI does not document the status '%s'%s%s%s; it "
		  "is accepted as it is",
		  status, like ? ", but '" : "", like ? like : "",
		  like ? "'" : "");
}

/* Returns a copy without the spaces at both ends; the caller frees it. */
static char *trimmed(const char *text, size_t length)
{
	while (length && strchr(" \t", *text)) {
		text++;
		length--;
	}
	while (length && strchr(" \t", text[length - 1]))
		length--;
	return xstrndup(text, length);
}

char *cli_statuses(const struct verb *v, const char *list)
{
	struct buf text = { 0 };

	if (!list)
		return NULL;
	buf_add(&text, "", 0);
	while (*list) {
		size_t length = strcspn(list, ",");
		char *status = trimmed(list, length);
		const char *known = find_documented(status);

		if (*status && !known)
			warn(v, status);
		if (*status)
			buf_printf(&text, "%s%s", text.length ? "," : "",
				   known ? known : status);
		free(status);
		list += length + (list[length] == ',');
	}
	return text.data;
}

/* Reads days, such as "7d", which parse_duration() does not know. */
static bool parse_days(const char *text, int64_t *us)
{
	size_t digits = strspn(text, "0123456789");
	char *number = xstrndup(text, digits);
	uint64_t days;
	bool ok = strcmp(text + digits, "d") == 0 &&
		  parse_u64(number, 0, 36500, &days);

	free(number);
	if (ok)
		*us = (int64_t)days * 24 * 3600 * 1000000;
	return ok;
}

char *cli_time(const char *text)
{
	char time[TIME_TEXT_SIZE];
	int64_t us;

	if (!text)
		return NULL;
	if (!parse_days(text, &us) && !parse_duration(text, &us))
		return xstrdup(text);
	/* No event is older than 1970, and format_time() knows no such time. */
	format_time(max_i64(wall_clock_us() - us, 0), time);
	return xstrdup(time);
}
