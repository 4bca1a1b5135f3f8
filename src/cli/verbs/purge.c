#include "base/macros.h"
#include "cli/query.h"
#include "store/spool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* In one transaction: each holds the locks of its tasks. */
#define TASKS_AT_ONCE "1000"

static int count_spooled(const struct verb *v, struct spool *s, size_t *count)
{
	static const enum spool_folder folders[] = { SPOOL_NEW, SPOOL_FAILED };
	struct spool_list list;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		if (!spool_list(s, folders[i], &list)) {
			cli_error(v, "can't read the spool: %s",
				  strerror(errno));
			return EX_IOERR;
		}
		*count += list.count;
		spool_list_free(&list);
	}
	return EX_OK;
}

/*
 * What waits in the spool belongs to a history that purge would take away
 * before it is whole.
 */
static int check_spool(const struct query *q)
{
	const char *path = q->settings.spool;
	struct spool *s;
	struct stat st;
	size_t count = 0;
	int code;

	if (!*path || (stat(path, &st) < 0 && errno == ENOENT))
		return EX_OK;
	s = spool_open(path, q->settings.spool_max);
	if (!s)
		return EX_NOPERM;
	code = count_spooled(q->verb, s, &count);
	spool_close(s);
	if (code == EX_OK && count) {
		cli_error(q->verb,
			  "the spool %s holds %zu event%s; see humcli-webhook "
			  "spool, and purge after that",
			  path, count, count == 1 ? "" : "s");
		code = EX_TEMPFAIL;
	}
	return code;
}

static int purge(struct query *q, const char *older_than)
{
	const char *values[] = { older_than };
	uint64_t done, total = 0;
	int code;

	do {
		code = query_count(
			q,
			"SELECT humcli.purge($1::interval, " TASKS_AT_ONCE ")",
			values, 1, &done);
		total += done;
	} while (done);
	if (code != EX_OK && !total)
		return code;
	printf("%llu task%s purged\n", (unsigned long long)total,
	       total == 1 ? "" : "s");
	return code;
}

int cmd_purge(const struct verb *v, int argc, char **argv)
{
	const char *older_than = NULL;
	const struct cli_option options[] = {
		{ "older-than", &older_than, NULL },
	};
	struct query q;
	int code;

	if (!cli_options(v, &argc, &argv, options, ARRAY_SIZE(options), 0,
			 &code))
		return code;
	if (!older_than)
		return cli_usage_error(v, "--older-than is missing");
	code = query_open_primary(&q, v);
	if (code == EX_OK)
		code = check_spool(&q);
	if (code == EX_OK)
		code = purge(&q, older_than);
	query_close(&q);
	return code;
}
