/* Owns where random bytes come from: getrandom(). Knows no use of them. */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

bool random_bytes(void *data, size_t length)
{
	char *to = data;

	while (length) {
		ssize_t n = getrandom(to, length, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		to += n;
		length -= (size_t)n;
	}
	return true;
}
