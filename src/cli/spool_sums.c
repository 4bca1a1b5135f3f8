/*
 * Owns how the spool is counted for those who watch it. Must not know what is
 * done with the sums. Root counts in a child process that becomes the spool's
 * owner and leaves the sums in shared memory.
 */
#include "cli/spool_sums.h"

#include "base/macros.h"
#include "cli/program.h"
#include "store/spool.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* What the child process fills in. */
struct count {
	const struct settings *settings;
	struct spool_sums sums;
};

static bool count_folder(struct spool *s, enum spool_folder folder,
			 struct spool_folder_sums *sums)
{
	struct spool_list list;

	if (!spool_list(s, folder, &list))
		return false;
	sums->files = list.count;
	sums->oldest = list.count ? list.items[0].mtime : 0;
	for (size_t i = 0; i < list.count; i++)
		sums->bytes += list.items[i].size;
	spool_list_free(&list);
	return true;
}

/* Returns EX_OK, or EX_UNAVAILABLE if the spool can't be read. */
static int count(void *context)
{
	struct count *c = context;
	struct spool *s =
		spool_open(c->settings->spool, c->settings->spool_max);
	bool counted = s && count_folder(s, SPOOL_NEW, &c->sums.new) &&
		       count_folder(s, SPOOL_FAILED, &c->sums.failed);

	/* Notes of refusals are there only once something was refused. */
	if (counted)
		(void)count_folder(s, SPOOL_REFUSED, &c->sums.refused);
	spool_close(s);
	return counted ? EX_OK : EX_UNAVAILABLE;
}

static bool count_as_owner(struct count *c)
{
	char *owner = cli_owner_name(c->settings->spool);
	int code = EX_UNAVAILABLE;
	bool ran = cli_run_as(owner, count, c, &code);

	free(owner);
	return ran && code == EX_OK;
}

bool cli_spool_sums(const struct settings *settings, struct spool_sums *sums)
{
	struct count *c;
	struct stat st;
	bool counted;

	*sums = (struct spool_sums){ 0 };
	if (!*settings->spool || stat(settings->spool, &st) < 0)
		return false;
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED)
		return false;
	c->settings = settings;
	counted = st.st_uid == geteuid() ? count(c) == EX_OK
					 : count_as_owner(c);
	*sums = c->sums;
	munmap(c, sizeof(*c));
	return counted;
}
