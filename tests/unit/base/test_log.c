/* The log: its form, its levels, its targets, hostile text, its limits. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "scratch.h"

static int make_log(void **state)
{
	struct scratch *s = xcalloc(1, sizeof(*s));
	char *path;

	scratch_make(s);
	path = scratch_path(s, "log");
	assert_true(log_open(path, LEVEL_INFO));
	free(path);
	*state = s;
	return 0;
}

static int remove_log(void **state)
{
	assert_true(log_open("stderr", LEVEL_INFO));
	scratch_remove(*state);
	free(*state);
	return 0;
}

/* Returns the one line of the log from behind pid=…, and empties the log. */
static char *take_line(const struct scratch *s)
{
	char *text = scratch_read(s, "log"), *pid, *line;

	assert_int_equal(count_of(text, "\n"), 1);
	assert_int_equal(text[strlen(text) - 1], '\n');
	text[strlen(text) - 1] = '\0';
	pid = strstr(text, " pid=");
	assert_non_null(pid);
	line = xstrdup(pid + 5 + strspn(pid + 5, "0123456789"));
	free(text);
	scratch_write(s, "log", 0600, "");
	return line;
}

static void test_terminal(void **state)
{
	const struct scratch *s = *state;
	char *text;

	log_for_terminal("humcli-webhook events");
	log_message(LEVEL_ERROR, "can't \"%s\" it", "x\x1b[31m\xff");
	log_for_terminal(NULL);
	text = scratch_read(s, "log");
	assert_string_equal(text, "humcli-webhook events: can't "
				  "\"x\\x1b[31m\\xff\" it\n");
	free(text);
	scratch_write(s, "log", 0600, "");
}

static void test_form(void **state)
{
	static const char time[] = "time=0000-00-00T00:00:00.000Z";
	const struct scratch *s = *state;
	char *path = scratch_path(s, "log"), *text, *rest;
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	log_message(LEVEL_WARNING, "%d is %s", 5, "five");
	text = scratch_read(s, "log");
	assert_true(strlen(text) > strlen(time));
	for (size_t i = 0; time[i]; i++) {
		if (time[i] == '0')
			assert_in_range(text[i], '0', '9');
		else
			assert_int_equal(text[i], time[i]);
	}
	rest = xasprintf(" level=warning pid=%ld msg=\"5 is five\"\n",
			 (long)getpid());
	assert_string_equal(text + strlen(time), rest);
	free(rest);
	free(text);
	free(path);
}

static void test_values(void **state)
{
	static const struct {
		int line;
		const char *value, *shown;
	} cases[] = {
		{ __LINE__, "plain", "plain" },
		{ __LINE__, "a-b_c/d:e,f", "a-b_c/d:e,f" },
		{ __LINE__, "", "\"\"" },
		{ __LINE__, "two words", "\"two words\"" },
		{ __LINE__, "a=b", "\"a=b\"" },
		{ __LINE__, "say \"hi\"", "\"say \\\"hi\\\"\"" },
		{ __LINE__, "back\\slash", "\"back\\\\slash\"" },
		{ __LINE__, "a\nlevel=error", "\"a\\x0alevel=error\"" },
		{ __LINE__, "\r\t", "\"\\x0d\\x09\"" },
		{ __LINE__, "\x1b[31m", "\"\\x1b[31m\"" },
		{ __LINE__, "\x7f", "\"\\x7f\"" },
		{ __LINE__, "\xc3\xa4", "\"\\xc3\\xa4\"" },
		{ __LINE__, "\xff", "\"\\xff\"" },
	};
	const struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *wanted = xasprintf(" k=%s", cases[i].shown), *got;

		log_fields(LEVEL_INFO, "k", cases[i].value, NULL);
		got = take_line(s);
		if (strcmp(got, wanted) != 0)
			fail_msg("line %d: '%s', not '%s'", cases[i].line, got,
				 wanted);
		free(got);
		free(wanted);
	}
}

static void test_pairs(void **state)
{
	const struct scratch *s = *state;
	const char *absent = NULL;
	char *line;

	log_fields(LEVEL_INFO, "outcome", "recorded", "task_id", absent, "ms",
		   "3", NULL);
	line = take_line(s);
	assert_string_equal(line, " outcome=recorded ms=3");
	free(line);
}

static void test_levels(void **state)
{
	static const struct {
		int line;
		enum log_level level;
		const char *name;
	} cases[] = {
		{ __LINE__, LEVEL_ERROR, "error" },
		{ __LINE__, LEVEL_WARNING, "warning" },
		{ __LINE__, LEVEL_INFO, "info" },
		{ __LINE__, LEVEL_DEBUG, "debug" },
	};
	const struct scratch *s = *state;
	char *path = scratch_path(s, "log");
	enum log_level level = LEVEL_DEBUG;

	assert_false(log_level_parse("", &level));
	assert_false(log_level_parse("Error", &level));
	assert_false(log_level_parse("errors", &level));
	assert_int_equal(level, LEVEL_DEBUG);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text;

		if (!log_level_parse(cases[i].name, &level) ||
		    level != cases[i].level ||
		    strcmp(log_level_name(level), cases[i].name) != 0)
			fail_msg("line %d", cases[i].line);
		assert_true(log_open(path, level));
		for (size_t j = 0; j < ARRAY_SIZE(cases); j++) {
			log_message(cases[j].level, "said");
			log_fields(cases[j].level, "msg", "said", NULL);
		}
		text = scratch_read(s, "log");
		for (size_t j = 0; j < ARRAY_SIZE(cases); j++) {
			char *part = xasprintf("level=%s", cases[j].name);

			if (count_of(text, part) != (j <= i ? 2 : 0))
				fail_msg("line %d: %s", cases[i].line, part);
			free(part);
		}
		free(text);
		scratch_write(s, "log", 0600, "");
	}
	free(path);
}

/* A line is cut at 4 KiB, and still ends in a newline. */
static void test_long_lines(void **state)
{
	static const struct {
		int line;
		size_t length;
	} cases[] = {
		{ __LINE__, 4000 }, { __LINE__, 4050 },	 { __LINE__, 4095 },
		{ __LINE__, 4096 }, { __LINE__, 70000 },
	};
	const struct scratch *s = *state;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		size_t length = cases[i / 2].length;
		char *value = xmalloc(length + 1), *text;

		memset(value, i % 2 ? '\n' : 'x', length);
		value[length] = '\0';
		log_message(LEVEL_INFO, "%s", value);
		text = scratch_read(s, "log");
		if (strlen(text) > 4096 || count_of(text, "\n") != 1 ||
		    text[strlen(text) - 1] != '\n' || strlen(text) < 4000)
			fail_msg("line %d: %zu bytes", cases[i / 2].line,
				 strlen(text));
		free(text);
		scratch_write(s, "log", 0600, "");
		log_fields(LEVEL_INFO, "a", value, "b", value, NULL);
		text = scratch_read(s, "log");
		if (strlen(text) != 4096 || count_of(text, "\n") != 1)
			fail_msg("line %d: %zu bytes", cases[i / 2].line,
				 strlen(text));
		free(text);
		scratch_write(s, "log", 0600, "");
		free(value);
	}
}

static void test_errno_is_kept(void **state)
{
	const struct scratch *s = *state;
	char *line;

	errno = ENOENT;
	log_message(LEVEL_INFO, "%m");
	assert_int_equal(errno, ENOENT);
	line = take_line(s);
	assert_string_equal(line, " msg=\"No such file or directory\"");
	free(line);
	errno = EACCES;
	log_fields(LEVEL_INFO, "a", "b", NULL);
	assert_int_equal(errno, EACCES);
	line = take_line(s);
	free(line);
	errno = EACCES;
	log_message(LEVEL_DEBUG, "not said");
	assert_int_equal(errno, EACCES);
}

/* If a file can't be opened, the log keeps its target. */
static void test_bad_file(void **state)
{
	const struct scratch *s = *state;
	char *path = scratch_path(s, "missing/log"), *line;

	errno = 0;
	assert_false(log_open(path, LEVEL_DEBUG));
	assert_int_equal(errno, ENOENT);
	log_message(LEVEL_INFO, "still here");
	log_message(LEVEL_DEBUG, "too quiet");
	line = take_line(s);
	assert_string_equal(line, " msg=\"still here\"");
	free(line);
	free(path);
}

/* The file is appended to, because several processes may share it. */
static void test_appends(void **state)
{
	const struct scratch *s = *state;
	char *path = scratch_path(s, "log"), *text;

	scratch_write(s, "log", 0640, "before\n");
	assert_true(log_open(path, LEVEL_INFO));
	log_message(LEVEL_INFO, "after");
	text = scratch_read(s, "log");
	assert_int_equal(strncmp(text, "before\ntime=", 12), 0);
	free(text);
	free(path);
}

static void test_stderr(void **state)
{
	const struct scratch *s = *state;
	char *path = scratch_path(s, "log"), *line;
	int saved = dup(STDERR_FILENO), fd;

	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(saved >= 0 && fd >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	assert_true(log_open("stderr", LEVEL_INFO));
	log_message(LEVEL_INFO, "there");
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(fd);
	close(saved);
	line = take_line(s);
	assert_string_equal(line, " msg=there");
	free(line);
	free(path);
}

/* LOG_FORMAT=json: one object a line, with the same fields. */
static void test_json(void **state)
{
	static const struct {
		int line;
		const char *value, *json;
	} cases[] = {
		{ __LINE__, "", "" },
		{ __LINE__, "plain", "plain" },
		{ __LINE__, "a b=c", "a b=c" },
		{ __LINE__, "\"\\/", "\\\"\\\\/" },
		{ __LINE__, "\n\t\x01\x1f\x7f",
		  "\\u000a\\u0009\\u0001\\u001f\\u007f" },
		{ __LINE__, "\xc3\xbc", "\\u00fc" },
		{ __LINE__, "\xe4\xb8\x96", "\\u4e16" },
		{ __LINE__, "\xf0\x9f\x98\x80", "\\ud83d\\ude00" },
		{ __LINE__, "\xf4\x8f\xbf\xbf", "\\udbff\\udfff" },
		{ __LINE__, "\xc2\x9b", "\\u009b" },
		/* Invalid: overlong, a surrogate, too large, cut, alone. */
		{ __LINE__, "\xc0\xaf", "\\ufffd\\ufffd" },
		{ __LINE__, "\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd" },
		{ __LINE__, "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },
		{ __LINE__, "\xf4\x90\x80\x80",
		  "\\ufffd\\ufffd\\ufffd\\ufffd" },
		{ __LINE__, "\xe4\xb8", "\\ufffd\\ufffd" },
		{ __LINE__, "\xff\x80x", "\\ufffd\\ufffdx" },
	};
	const struct scratch *s = *state;

	log_set_format(LOG_JSON);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text, *wanted = xasprintf(",\"a\":\"%s\",\"b\":\"x\"}\n",
						cases[i].json);

		log_fields(LEVEL_ERROR, "a", cases[i].value, "none", NULL, "b",
			   "x", NULL);
		text = scratch_read(s, "log");
		if (strncmp(text, "{\"time\":\"2", 10) != 0 ||
		    !strstr(text, "Z\",\"level\":\"error\",\"pid\":\"") ||
		    !strstr(text, wanted))
			fail_msg("line %d: %s", cases[i].line, text);
		free(text);
		free(wanted);
		scratch_write(s, "log", 0600, "");
	}
	log_message(LEVEL_INFO, "a \"%s\"", "b");
	{
		char *text = scratch_read(s, "log");

		assert_non_null(strstr(text, ",\"msg\":\"a \\\"b\\\"\"}\n"));
		free(text);
	}
	log_set_format(LOG_LOGFMT);
}

/* A line that is too long is still an object, with no escape cut in two. */
static void test_long_json(void **state)
{
	const struct scratch *s = *state;

	log_set_format(LOG_JSON);
	for (size_t length = 3950; length < 4110; length++) {
		char *value = xmalloc(length + 1), *text, *end;
		size_t escapes;

		memset(value, 'x', length);
		strcpy(value + length - 2, "\n\n");
		scratch_write(s, "log", 0600, "");
		log_fields(LEVEL_INFO, "a", value, "b", "y", NULL);
		text = scratch_read(s, "log");
		assert_true(strlen(text) <= 4096);
		end = text + strlen(text) - 3;
		assert_string_equal(end, "\"}\n");
		escapes = count_of(text, "\\u000a");
		assert_int_equal(count_of(text, "\\"), escapes);
		/* Quotes of five or four pairs, and of the last value. */
		assert_true(count_of(text, "\"") == 4 * 4 ||
			    count_of(text, "\"") == 4 * 5);
		free(text);
		free(value);
	}
	log_set_format(LOG_LOGFMT);
}

/* The same text passes once a minute, another text at once. */
static void test_limit(void **state)
{
	struct log_limit limit = { 0 }, other = { 0 };

	(void)state;
	assert_true(log_limit_pass(&limit, "a"));
	assert_false(log_limit_pass(&limit, "a"));
	assert_true(log_limit_pass(&other, "a"));
	assert_true(log_limit_pass(&limit, "b"));
	assert_false(log_limit_pass(&limit, "b"));
	log_limit_reset(&limit);
	assert_true(log_limit_pass(&limit, "b"));
	assert_false(log_limit_pass(&limit, "b"));
	/* As if a minute had passed. */
	limit.passed_at -= 59000;
	assert_false(log_limit_pass(&limit, "b"));
	limit.passed_at -= 1000;
	assert_true(log_limit_pass(&limit, "b"));
	assert_false(log_limit_pass(&limit, "b"));
}

static void test_limited(void **state)
{
	const struct scratch *s = *state;
	struct log_limit limit = { 0 };
	char *line;

	errno = ENOENT;
	log_limited(&limit, LEVEL_ERROR, "file %d: %m", 5);
	log_limited(&limit, LEVEL_ERROR, "file %d: %m", 5);
	assert_int_equal(errno, ENOENT);
	line = take_line(s);
	assert_string_equal(line, " msg=\"file 5: No such file or directory\"");
	free(line);
	errno = EACCES;
	log_limited(&limit, LEVEL_ERROR, "file %d: %m", 5);
	line = take_line(s);
	assert_string_equal(line, " msg=\"file 5: Permission denied\"");
	free(line);
}

enum { THREADS = 4, LINES = 200 };

static void *talk(void *argument)
{
	const char *who = argument;

	for (int i = 0; i < LINES; i++)
		log_fields(LEVEL_INFO, "from", who, "to", who, NULL);
	return NULL;
}

/* Lines of several threads are whole, with and without the log's thread. */
static void test_threads(void **state)
{
	static char names[THREADS][2] = { "a", "b", "c", "d" };
	const struct scratch *s = *state;
	pthread_t threads[THREADS];

	for (int started = 0; started < 2; started++) {
		char *text;

		if (started)
			log_start();
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, talk,
							names[i]),
					 0);
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		log_stop(monotonic_ms() + 60000);
		text = scratch_read(s, "log");
		assert_int_equal(count_of(text, "\n"), THREADS * LINES);
		for (int i = 0; i < THREADS; i++) {
			char *whole = xasprintf(" from=%s to=%s\n", names[i],
						names[i]);

			assert_int_equal(count_of(text, whole), LINES);
			free(whole);
		}
		free(text);
		scratch_write(s, "log", 0600, "");
	}
}

/* Lines of the log's thread are whole and in order, after log_stop() too. */
static void test_started(void **state)
{
	const struct scratch *s = *state;
	char *text, *at;

	log_start();
	for (int i = 0; i < LINES; i++)
		log_message(LEVEL_INFO, "line-%03d", i);
	log_stop(monotonic_ms() + 60000);
	log_message(LEVEL_INFO, "line-%03d", LINES);
	at = text = scratch_read(s, "log");
	for (int i = 0; i <= LINES; i++) {
		char *line = xasprintf(" msg=line-%03d\n", i);

		at = strstr(at, line);
		assert_non_null(at);
		free(line);
	}
	assert_int_equal(count_of(text, "\n"), LINES + 1);
	free(text);
}

/* Makes the log a FIFO that holds 4 KiB; returns its reading end. */
static int open_fifo(const struct scratch *s)
{
	char *path = scratch_path(s, "fifo");
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETPIPE_SZ, 4096), 4096);
	assert_true(log_open(path, LEVEL_INFO));
	free(path);
	return fd;
}

/* Returns the number of lines that the log itself calls lost. */
static unsigned long lost_lines(const char *text)
{
	unsigned long sum = 0;

	for (const char *at = text; (at = strstr(at, "msg=\"")); at++) {
		char *end;
		unsigned long n = strtoul(at + 5, &end, 10);

		if (strncmp(end, " log line", 9) == 0)
			sum += n;
	}
	return sum;
}

/*
 * Appends all that is in the FIFO, so that the caller does not count the lines
 * after each part of it.
 */
static void drain_fifo(int fd, struct buf *text)
{
	char part[4096];
	ssize_t n;

	buf_add(text, "", 0);
	while ((n = read(fd, part, sizeof(part))) > 0)
		buf_add(text, part, (size_t)n);
}

/* Reads until each of so many lines is there, or counted as lost. */
static void expect_in_fifo(int fd, struct buf *text, size_t count)
{
	int64_t end = monotonic_ms() + 60000;

	do {
		assert_true(monotonic_ms() < end);
		assert_int_equal(usleep(1000), 0);
		drain_fifo(fd, text);
	} while (count_of(text->data, "msg=\"line of some") +
			 count_of(text->data, "msg=late") +
			 lost_lines(text->data) <
		 count);
}

/* Nobody reads: no caller waits, and each line is there or counted. */
static void test_stuck(void **state)
{
	enum { MANY = 10000 };
	const struct scratch *s = *state;
	int fd = open_fifo(s);
	struct buf text = { 0 };
	int64_t start = monotonic_ms();

	log_start();
	for (int i = 0; i < MANY; i++)
		log_message(LEVEL_INFO, "line of some length %d", i);
	assert_true(monotonic_ms() - start < 5000);
	start = monotonic_ms();
	log_stop(start + 100);
	assert_true(monotonic_ms() - start < 5000);
	log_message(LEVEL_INFO, "late");
	expect_in_fifo(fd, &text, MANY + 1);
	log_stop(monotonic_ms() + 60000);
	assert_true(lost_lines(text.data) > 0);
	assert_int_equal(count_of(text.data, "\n"),
			 count_of(text.data, "time="));
	buf_free(&text);
	close(fd);
}

/* Without the log's thread the first line waits, and the next do not. */
static void test_stuck_directly(void **state)
{
	enum { MANY = 1000 };
	const struct scratch *s = *state;
	int fd = open_fifo(s);
	struct buf text = { 0 };
	int64_t start = monotonic_ms();

	for (int i = 0; i < MANY; i++)
		log_message(LEVEL_INFO, "line of some length %d", i);
	assert_true(monotonic_ms() - start < 10000);
	drain_fifo(fd, &text);
	log_message(LEVEL_INFO, "late");
	expect_in_fifo(fd, &text, MANY + 1);
	assert_true(lost_lines(text.data) > 0);
	buf_free(&text);
	close(fd);
}

/* A file that can't grow: what was written of a line is ended. */
static void test_full(void **state)
{
	const struct scratch *s = *state;
	struct rlimit before, limit;
	char *text;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){ 100, before.rlim_max };
	assert_int_not_equal(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
	for (int i = 0; i < 2; i++) {
		if (i)
			log_start();
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		log_message(LEVEL_INFO, "one");
		log_message(LEVEL_INFO, "two");
		if (i)
			log_stop(monotonic_ms() + 60000);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		log_message(LEVEL_INFO, "three");
		text = scratch_read(s, "log");
		assert_int_equal(count_of(text, "msg=one\n"), 1);
		assert_int_equal(count_of(text, "\ntime="), 3);
		assert_int_equal(count_of(text, "msg=three\n"), 1);
		assert_int_equal(lost_lines(text), 1);
		free(text);
		scratch_write(s, "log", 0600, "");
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_log, remove_log)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_form),	   TEST(test_values),
		TEST(test_pairs),	   TEST(test_levels),
		TEST(test_long_lines),	   TEST(test_errno_is_kept),
		TEST(test_bad_file),	   TEST(test_appends),
		TEST(test_stderr),	   TEST(test_threads),
		TEST(test_json),	   TEST(test_long_json),
		TEST(test_limit),	   TEST(test_limited),
		TEST(test_started),	   TEST(test_stuck),
		TEST(test_stuck_directly), TEST(test_full),
		TEST(test_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
