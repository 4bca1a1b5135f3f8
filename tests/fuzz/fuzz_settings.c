/*
 * settings.c: a file and an environment of any content. Accepted values are
 * within their range, and are read back from a file that is written from them.
 * Errors explain a refused value without showing it.
 *
 * Input: the file's mode, the file up to a form feed, then the environment,
 * a variable a line.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/parse.h"
#include "config/settings_table.h"

enum { MAX_VARIABLES = 32 };

/* No error may show this; corpus and dictionary hold it. */
static const char marker[] = "whsec-marker";

static struct memory_log memory = { -1 };

static void check_text(const struct settings *s, const struct settings_key *key)
{
	const char *text;

	/* Numbers are not aligned like pointers. */
	if (key->type != TYPE_TEXT && key->type != TYPE_SECRET &&
	    key->type != TYPE_PATH && key->type != TYPE_LOG)
		return;
	text = *(char *const *)((const char *)s + key->offset);
	if (key->type == TYPE_SECRET)
		CHECK(!text || *text);
	if (key->type == TYPE_PATH)
		CHECK(!text || *text == '\0' || *text == '/');
	if (key->type == TYPE_LOG)
		CHECK(text && (*text == '/' || strcmp(text, "stderr") == 0 ||
			       strcmp(text, "syslog") == 0));
	if (key->type == TYPE_TEXT)
		CHECK(text);
}

static void check_ranges(const struct settings *s)
{
	for (size_t i = 0; i < settings_key_count; i++)
		check_text(s, &settings_keys[i]);
	CHECK(s->max_body >= 1 << 10 && s->max_body <= 16 << 20);
	CHECK(s->deadline >= 200 && s->deadline <= 10000);
	CHECK(s->threads >= 1 && s->threads <= 1024);
	CHECK(s->batch >= 1 && s->batch <= 4096);
	CHECK(s->redelivery_window >= 0 &&
	      s->redelivery_window <= INT64_C(168) * 3600 * 1000000);
	CHECK(s->idle_disconnect >= 1000 &&
	      s->idle_disconnect <= INT64_C(24) * 3600 * 1000);
	CHECK(s->spool_max >= 64 << 10 && s->spool_max <= UINT64_C(1) << 40);
	CHECK(s->log_level <= LEVEL_DEBUG);
	CHECK(s->spool);
}

/* Checks that each error is one line without the marker. */
static void check_errors(const struct buf *errors)
{
	CHECK(errors->length && errors->data[errors->length - 1] == '\n');
	CHECK(strlen(errors->data) == errors->length);
	CHECK(!strstr(errors->data, marker));
}

/* Writes numbers with units: "64KiB", "3s". */
static void check_numbers(const char *text)
{
	static const struct {
		const char *name;
		long double scale;
	} sizes[] = { { "B", 1 },
		      { "KiB", 1024 },
		      { "MiB", 1048576 },
		      { "GiB", 1073741824 } },
	  times[] = { { "ms", 1e3L },
		      { "s", 1e6L },
		      { "min", 60e6L },
		      { "h", 3600e6L } };
	uint64_t bytes;
	int64_t us;
	char *unit;
	long double number = strtold(text, &unit);

	if (parse_size(text, &bytes)) {
		for (size_t i = 0; i < 4; i++) {
			if (strcmp(unit, sizes[i].name) == 0)
				CHECK((long double)bytes ==
				      number * sizes[i].scale);
		}
	}
	if (parse_duration(text, &us)) {
		CHECK(us >= 0);
		for (size_t i = 0; i < 4; i++) {
			long double wanted = number * times[i].scale;

			/* Digits beyond the microsecond are cut off. */
			if (strcmp(unit, times[i].name) == 0 &&
			    wanted < 0x1p52L)
				CHECK((long double)us <= wanted + 0.01L &&
				      (long double)us > wanted - 1.01L);
		}
	}
}

/* Makes a file in memory, and sets its path. */
static int make_file(const char *text, size_t length, mode_t mode, char *path,
		     size_t size)
{
	int fd = memfd_create("settings", MFD_CLOEXEC);

	CHECK(fd >= 0 && write_all(fd, text, length) && fchmod(fd, mode) == 0);
	snprintf(path, size, "HUMCLI_WEBHOOK_CONFIG=/proc/self/fd/%d", fd);
	return fd;
}

static bool load(struct settings *s, char **environment, struct buf *errors)
{
	struct settings_sources places = { .environment = environment,
					   .sysconfdir = "/nonexistent",
					   .localstatedir = "/var",
					   .home = "/nonexistent/home" };

	return settings_load(s, &places, errors);
}

/* Checks that settings written as a file are read as the same settings. */
static void check_again(const struct settings *s)
{
	struct buf file = { 0 }, errors = { 0 };
	struct settings again;
	char path[64], *environment[] = { path, NULL };
	int fd;

	buf_printf(&file,
		   "HUMCLI_WEBHOOK_DATABASE=%s\nHUMCLI_WEBHOOK_MAX_BODY=%lluB\n"
		   "HUMCLI_WEBHOOK_DEADLINE=%lldms\nHUMCLI_WEBHOOK_SPOOL=%s\n"
		   "HUMCLI_WEBHOOK_THREADS=%u\nHUMCLI_WEBHOOK_LOG_LEVEL=%s\n",
		   s->database, (unsigned long long)s->max_body,
		   (long long)s->deadline, s->spool, s->threads,
		   log_level_name(s->log_level));
	fd = make_file(file.data, file.length, 0600, path, sizeof(path));
	CHECK(load(&again, environment, &errors));
	CHECK(strcmp(again.database, s->database) == 0 &&
	      strcmp(again.spool, s->spool) == 0);
	CHECK(again.max_body == s->max_body && again.deadline == s->deadline &&
	      again.threads == s->threads && again.log_level == s->log_level);
	settings_free(&again);
	close(fd);
	buf_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	mode_t mode = input_byte(&in) & 0666;
	char path[64], *environment[MAX_VARIABLES + 2] = { path }, *text;
	const uint8_t *file = in.at;
	size_t length = in.left, count = 1;
	struct buf errors = { 0 };
	struct settings s;
	int fd;

	if (memory.fd < 0)
		memory_log_open(&memory);
	text = input_line(&in, '\f');
	if (text)
		length = (size_t)(in.at - file) -
			 (in.at > file && in.at[-1] == '\f');
	fd = make_file((const char *)file, length, mode | 0400, path,
		       sizeof(path));
	while (count <= MAX_VARIABLES &&
	       (environment[count] = input_line(&in, '\n')))
		count++;
	environment[count] = NULL;
	if (load(&s, environment, &errors)) {
		check_ranges(&s);
		check_again(&s);
	} else {
		check_errors(&errors);
	}
	if (text)
		check_numbers(text);
	free(text);
	text = memory_log_take(&memory);
	CHECK(!strstr(text, marker));
	free(text);
	settings_free(&s);
	buf_free(&errors);
	while (--count)
		free(environment[count]);
	close(fd);
	return 0;
}
