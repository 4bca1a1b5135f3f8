#include "store/breaker_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

static int open_file(const char *spool, int flags)
{
	char *path = xasprintf("%s/health", spool);
	int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);

	free(path);
	return fd;
}

bool breaker_file_load(const char *spool, int64_t *age, bool *ok)
{
	struct stat st;
	char word = 0;
	int fd = *spool ? open_file(spool, O_RDONLY) : -1;
	bool found;

	if (fd < 0)
		return false;
	found = fstat(fd, &st) == 0 && read(fd, &word, 1) == 1;
	close(fd);
	if (!found)
		return false;
	*age = wall_clock_us() / 1000 - ((int64_t)st.st_mtim.tv_sec * 1000 +
					 st.st_mtim.tv_nsec / 1000000);
	*ok = word == 'o';
	return *age >= 0;
}

void breaker_file_save(const char *spool, bool ok)
{
	int fd;

	if (!*spool)
		return;
	if (mkdir(spool, 0700) < 0 && errno != EEXIST)
		return;
	fd = open_file(spool, O_WRONLY | O_CREAT);
	if (fd < 0)
		return;
	/* As long as the other word, so that no reader finds it half done. */
	if (!write_all(fd, ok ? "ok\n" : "no\n", 3))
		log_message(LEVEL_DEBUG, "%s/health: %m", spool);
	close(fd);
}
