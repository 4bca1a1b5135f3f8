/*
 * Owns the file `health` in the spool: its form, and the permissions it is
 * opened with. The file's time is the time of the round trip. It must not
 * know the queue. Called by plain CGI alone, from the main thread and from
 * the writer's; other processes read and write the file at the same time.
 */
#include "store/breaker_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

/* All words have the same length: a reader never sees a partial file. */
enum { WORD_LENGTH = 3 };
static const char words[][WORD_LENGTH + 1] = {
	[ROUND_TRIP_OK] = "ok\n",
	[ROUND_TRIP_REFUSED] = "re\n",
	[ROUND_TRIP_FAILED] = "no\n",
};

static int open_file(const char *spool, int flags)
{
	char *path = xasprintf("%s/health", spool);
	int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);

	free(path);
	return fd;
}

/* Returns true with the result that the word means; false if it is none. */
static bool word_parse(const char *word, enum round_trip *result)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strncmp(word, words[i], WORD_LENGTH) == 0) {
			*result = (enum round_trip)i;
			return true;
		}
	}
	return false;
}

bool breaker_file_load(const char *spool, int64_t *age, enum round_trip *result)
{
	struct stat st;
	char word[WORD_LENGTH];
	int fd = open_file(spool, O_RDONLY);
	bool found;

	if (fd < 0)
		return false;
	found = fstat(fd, &st) == 0 &&
		read(fd, word, sizeof(word)) == (ssize_t)sizeof(word) &&
		word_parse(word, result);
	close(fd);
	if (!found)
		return false;
	*age = wall_clock_us() / 1000 - ((int64_t)st.st_mtim.tv_sec * 1000 +
					 st.st_mtim.tv_nsec / 1000000);
	return *age >= 0;
}

void breaker_file_save(const char *spool, enum round_trip result)
{
	int fd = open_file(spool, O_WRONLY | O_CREAT);

	if (fd < 0 || !write_all(fd, words[result], WORD_LENGTH))
		log_message(LEVEL_DEBUG, "can't write %s/health: %m", spool);
	if (fd >= 0)
		close(fd);
}
