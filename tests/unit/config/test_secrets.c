/*
 * The active secrets: valid and invalid files, and when a change takes effect.
 */
#include "config/secrets.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/macros.h"
#include "scratch.h"

/* A scratch folder with secrets, and settings that name it. */
struct world {
	struct scratch scratch;
	struct scratch memory; /* on tmpfs; for the tests that need it */
	struct settings settings;
	struct buf errors;
	struct secrets *secrets;
};

static int make_world(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	char *log;

	scratch_make(&w->scratch);
	scratch_mkdir(&w->scratch, "secrets", 0700);
	w->settings.secret_dir = scratch_path(&w->scratch, "secrets");
	w->settings.secret_dir_given = true;
	buf_add(&w->errors, "", 0);
	log = scratch_path(&w->scratch, "log");
	assert_true(log_open(log, LEVEL_INFO));
	free(log);
	*state = w;
	return 0;
}

static int remove_world(void **state)
{
	struct world *w = *state;

	assert_true(log_open("stderr", LEVEL_INFO));
	secrets_close(w->secrets);
	settings_free(&w->settings);
	buf_free(&w->errors);
	scratch_remove(&w->scratch);
	if (w->memory.path)
		scratch_remove(&w->memory);
	free(w);
	return 0;
}

static void open_again(struct world *w)
{
	secrets_close(w->secrets);
	buf_free(&w->errors);
	buf_add(&w->errors, "", 0);
	w->secrets = secrets_open(&w->settings, &w->errors);
}

static void open_good(struct world *w)
{
	open_again(w);
	if (!w->secrets)
		fail_msg("%s", w->errors.data);
}

/* Returns the active secrets as "name=key name=key", in their order. */
static char *active(struct world *w)
{
	const struct secret_set *set = secrets_acquire(w->secrets);
	struct buf text = { 0 };

	buf_add(&text, "", 0);
	for (size_t i = 0; i < set->count; i++)
		buf_printf(&text, "%s%s=%.*s", i ? " " : "", set->list[i].name,
			   (int)set->list[i].length,
			   (const char *)set->list[i].key);
	secrets_release(w->secrets, set);
	return text.data;
}

static void expect_live(int line, struct world *w, const char *wanted)
{
	char *got = active(w);

	if (strcmp(got, wanted) != 0)
		fail_msg("line %d: '%s', not '%s'", line, got, wanted);
	free(got);
}

static void pause_briefly(void)
{
	static const struct timespec pause = { 0, 5000000 };

	nanosleep(&pause, NULL);
}

/* Expects that within 1 s the active secrets are these. */
static void expect_soon(int line, struct world *w, const char *wanted)
{
	int64_t start = monotonic_ms();

	for (;;) {
		char *got = active(w);
		bool there = strcmp(got, wanted) == 0;

		if (!there && monotonic_ms() - start > 1000)
			fail_msg("line %d: still '%s', not '%s'", line, got,
				 wanted);
		free(got);
		if (there)
			return;
		pause_briefly();
	}
}

static size_t logged(struct world *w, const char *what)
{
	char *text = scratch_read(&w->scratch, "log");
	size_t count = count_of(text, what);

	free(text);
	return count;
}

/* Waits until the log has a text, while the secrets are acquired. */
static void expect_logged(int line, struct world *w, const char *what)
{
	int64_t start = monotonic_ms();

	while (logged(w, what) == 0) {
		if (monotonic_ms() - start > 5000)
			fail_msg("line %d: '%s' was not logged", line, what);
		free(active(w));
		pause_briefly();
	}
}

static void test_content(void **state)
{
	static const struct {
		int line;
		const char *text;
		size_t length;
		const char *key; /* NULL: the secret is empty */
		size_t key_length;
	} cases[] = {
#define CASE(text, key) \
	{ __LINE__, text, sizeof(text) - 1, key, sizeof(key) - 1 }
		CASE("whsec_x", "whsec_x"),
		CASE("whsec_x\n", "whsec_x"),
		CASE("whsec_x\r\n", "whsec_x"),
		CASE("whsec_x\n\n", "whsec_x\n"),
		CASE("whsec_x\r\n\r\n", "whsec_x\r\n"),
		CASE("whsec_x\n\r", "whsec_x\n\r"),
		CASE("whsec_x\r", "whsec_x\r"),
		CASE(" whsec_x ", " whsec_x "),
		CASE("\nx", "\nx"),
		CASE("\n\n", "\n"),
		CASE("x", "x"),
		CASE("a\0b\n", "a\0b"),
		CASE("\xef\xbb\xbf\xc3\xa4\n", "\xef\xbb\xbf\xc3\xa4"),
#undef CASE
		{ __LINE__, "", 0, NULL, 0 },
		{ __LINE__, "\n", 1, NULL, 0 },
		{ __LINE__, "\r\n", 2, NULL, 0 },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct secret_set *set;

		scratch_write_bytes(&w->scratch, "secrets/a", 0600,
				    cases[i].text, cases[i].length);
		open_again(w);
		if (!cases[i].key) {
			if (w->secrets || count_of(w->errors.data, "\n") != 1 ||
			    !strstr(w->errors.data,
				    "/secrets/a: an empty secret\n"))
				fail_msg("line %d: %s", cases[i].line,
					 w->errors.data);
			continue;
		}
		if (!w->secrets)
			fail_msg("line %d: %s", cases[i].line, w->errors.data);
		set = secrets_acquire(w->secrets);
		if (set->count != 1 || strcmp(set->list[0].name, "a") != 0 ||
		    set->list[0].length != cases[i].key_length ||
		    memcmp(set->list[0].key, cases[i].key,
			   cases[i].key_length) != 0)
			fail_msg("line %d: another key", cases[i].line);
		secrets_release(w->secrets, set);
	}
}

static void test_length(void **state)
{
	static const struct {
		int line;
		size_t length;
		const char *newline;
		bool good;
	} cases[] = {
		{ __LINE__, 4096, "", true },
		{ __LINE__, 4096, "\n", true },
		{ __LINE__, 4096, "\r\n", true },
		{ __LINE__, 4097, "", false },
		{ __LINE__, 4097, "\n", false },
		{ __LINE__, 4096, "\n\n", false },
		{ __LINE__, 4096, "\r\n\n", false },
		{ __LINE__, 100000, "\n", false },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf text = { 0 };

		while (text.length < cases[i].length)
			buf_add(&text, "x", 1);
		buf_printf(&text, "%s", cases[i].newline);
		scratch_write(&w->scratch, "secrets/a", 0600, text.data);
		open_again(w);
		if (!w->secrets != !cases[i].good ||
		    (!cases[i].good &&
		     !strstr(w->errors.data, "/secrets/a: larger than 4KiB\n")))
			fail_msg("line %d: %s", cases[i].line, w->errors.data);
		buf_free(&text);
	}
}

static void test_modes(void **state)
{
	static const struct {
		int line;
		mode_t file, directory;
		const char *fix; /* NULL: the file is valid */
	} cases[] = {
		{ __LINE__, 0600, 0700, NULL },
		{ __LINE__, 0400, 0700, NULL },
		{ __LINE__, 0440, 0755, NULL },
		{ __LINE__, 0640, 0775, NULL },
		{ __LINE__, 0644, 0700,
		  "others can read it; fix: "
		  "chmod 0640 " },
		{ __LINE__, 0444, 0700,
		  "others can read it; fix: "
		  "chmod 0440 " },
		{ __LINE__, 0602, 0700,
		  "others can write it; fix: "
		  "chmod 0600 " },
		{ __LINE__, 0660, 0700,
		  "its group can write it; fix: "
		  "chmod 0640 " },
		{ __LINE__, 0777, 0700,
		  "others can write it; fix: "
		  "chmod 0750 " },
		{ __LINE__, 0600, 0702,
		  "others can write it; fix: "
		  "chmod o-w " },
		{ __LINE__, 0600, 01777,
		  "others can write it; fix: "
		  "chmod o-w " },
	};
	struct world *w = *state;

	if (w->scratch.tmpfs)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		scratch_write(&w->scratch, "secrets/a", cases[i].file,
			      "hidden");
		assert_int_equal(
			chmod(w->settings.secret_dir, cases[i].directory), 0);
		open_again(w);
		if (!w->secrets != (cases[i].fix != NULL) ||
		    (cases[i].fix && (!strstr(w->errors.data, cases[i].fix) ||
				      count_of(w->errors.data, "\n") != 1)))
			fail_msg("line %d: '%s'", cases[i].line,
				 w->errors.data);
		assert_null(strstr(w->errors.data, "hidden"));
		scratch_unlink(&w->scratch, "secrets/a");
	}
}

static void test_in_memory_is_a_warning(void **state)
{
	struct world *w = *state;

	if (!scratch_make_in_memory(&w->memory))
		skip();
	free(w->settings.secret_dir);
	w->settings.secret_dir = xstrdup(w->memory.path);
	assert_int_equal(chmod(w->memory.path, 01777), 0);
	scratch_write(&w->memory, "a", 0644, "one");
	open_good(w);
	expect_live(__LINE__, w, "a=one");
	assert_int_equal(logged(w, "level=warning"), 1);
	/*
	 * The same warning is not logged again when the files are read again.
	 */
	scratch_write(&w->memory, "b", 0600, "two");
	expect_soon(__LINE__, w, "a=one b=two");
	assert_int_equal(logged(w, "level=warning"), 1);
}

/* Bytes that are there by mistake count, with a warning that says so. */
static void test_suspicious_content(void **state)
{
	static const struct {
		int line;
		const char *text;
		size_t length;
		const char *warning; /* NULL: none */
	} cases[] = {
		{ __LINE__, "whsec_x\n", 8, NULL },
		{ __LINE__, "whsec x", 7, NULL },
		{ __LINE__, "\xef\xbb\xbfwhsec_x", 10, "byte order mark" },
		{ __LINE__, "\xff\xfew\0h\0", 6, "is UTF-16" },
		{ __LINE__, "\xfe\xff\0w\0h", 6, "is UTF-16" },
		{ __LINE__, " whsec_x", 8, "begins with white space" },
		{ __LINE__, "\twhsec_x", 8, "begins with white space" },
		{ __LINE__, "whsec_x \n", 9, "ends with white space" },
		{ __LINE__, "whsec_x\n\n", 9, "ends with white space" },
		{ __LINE__, "whsec_x\r", 8, "ends with white space" },
		{ __LINE__, " ", 1, "begins with white space" },
	};
	struct world *w = *state;
	const struct scratch *s = &w->scratch;
	char *path = scratch_path(s, "secrets/a");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			      0600);

		assert_true(fd >= 0);
		assert_true(write_all(fd, cases[i].text, cases[i].length));
		close(fd);
		open_good(w);
		if (logged(w, "level=warning") != (cases[i].warning != NULL) ||
		    (cases[i].warning && !logged(w, cases[i].warning)))
			fail_msg("line %d", cases[i].line);
		assert_int_equal(logged(w, "whsec"), 0);
		scratch_write(s, "log", 0600, "");
	}
	free(path);
}

/* With thousands of files, a new one is found, and the others stay. */
static void test_many(void **state)
{
	enum { MANY = 3000 };
	struct world *w = *state;
	const struct scratch *s = &w->scratch;
	const struct secret_set *set;
	size_t same;

	for (int i = 0; i < MANY; i++) {
		char *name = xasprintf("secrets/agent-%d", i);

		scratch_write(s, name, 0600, name);
		free(name);
	}
	open_good(w);
	for (int round = 0; round < 3; round++) {
		char *name = xasprintf("secrets/new-%d", round);
		int64_t start = monotonic_ms();

		scratch_write(s, name, 0600, name);
		do {
			assert_true(monotonic_ms() - start < 10000);
			pause_briefly();
			set = secrets_acquire(w->secrets);
			same = set->count;
			if (same == (size_t)MANY + 1 + (size_t)round)
				assert_non_null(secret_set_find(
					set, name + strlen("secrets/"), &same));
			else
				same = 0;
			secrets_release(w->secrets, set);
		} while (same == 0);
		free(name);
	}
	set = secrets_acquire(w->secrets);
	for (int i = 0; i < MANY; i++) {
		char *name = xasprintf("secrets/agent-%d", i);
		const struct secret *found =
			secret_set_find(set, name + strlen("secrets/"), &same);

		assert_non_null(found);
		assert_int_equal(found->length, strlen(name));
		assert_memory_equal(found->key, name, found->length);
		free(name);
	}
	secrets_release(w->secrets, set);
}

static void test_names(void **state)
{
	static const struct {
		int line;
		const char *name;
		bool good;
	} cases[] = {
		{ __LINE__, "a", true },
		{ __LINE__, "2026-11 agent.v2_x", true },
		{ __LINE__, "~", true },
		{ __LINE__, "a\nb", false },
		{ __LINE__, "a\x7f", false },
		{ __LINE__, "\xc3\xa4", false },
		{ __LINE__, "\xff", false },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *file = xasprintf("secrets/%s", cases[i].name);
		char *wanted = xasprintf("%s=k", cases[i].name);

		scratch_write(&w->scratch, file, 0600, "k");
		open_again(w);
		if (!w->secrets != !cases[i].good)
			fail_msg("line %d: %s", cases[i].line, w->errors.data);
		if (w->secrets)
			expect_live(cases[i].line, w, wanted);
		scratch_unlink(&w->scratch, file);
		free(wanted);
		free(file);
	}
}

static void test_what_is_no_secret(void **state)
{
	struct world *w = *state;
	char *fifo = scratch_path(&w->scratch, "secrets/fifo");

	scratch_write(&w->scratch, "secrets/a", 0600, "one");
	scratch_write(&w->scratch, "secrets/.hidden", 0666, "");
	scratch_mkdir(&w->scratch, "secrets/lost+found", 0777);
	scratch_mkdir(&w->scratch, "secrets/.d", 0700);
	scratch_symlink(&w->scratch, "lost+found", "secrets/link-to-folder");
	open_good(w);
	expect_live(__LINE__, w, "a=one");

	scratch_symlink(&w->scratch, "nowhere", "secrets/dangling");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	open_again(w);
	assert_null(w->secrets);
	assert_int_equal(count_of(w->errors.data, "\n"), 2);
	assert_non_null(strstr(w->errors.data,
			       "/secrets/dangling: No such file or "
			       "directory\n"));
	assert_non_null(
		strstr(w->errors.data, "/secrets/fifo: not a regular file\n"));
	free(fifo);
}

static void test_sources(void **state)
{
	struct world *w = *state;

	w->settings.secret = xstrdup("of the environment");
	open_good(w);
	expect_live(__LINE__, w, "default=of the environment");
	scratch_write(&w->scratch, "agent", 0600, "of the file\n");
	w->settings.secret_file = scratch_path(&w->scratch, "agent");
	scratch_write(&w->scratch, "secrets/b", 0600, "two");
	scratch_write(&w->scratch, "secrets/agent", 0600, "one");
	scratch_write(&w->scratch, "secrets/default", 0600, "three");
	open_good(w);
	expect_live(__LINE__, w,
		    "agent=of the file agent=one b=two "
		    "default=of the environment default=three");

	/* SECRET_FILE is watched like the folder. */
	scratch_write(&w->scratch, "agent", 0600, "another");
	expect_soon(__LINE__, w,
		    "agent=another agent=one b=two "
		    "default=of the environment default=three");
	scratch_unlink(&w->scratch, "agent");
	expect_soon(__LINE__, w,
		    "agent=one b=two default=of the environment "
		    "default=three");
	assert_int_equal(logged(w, "/agent: No such file or directory"), 1);
}

static void test_none(void **state)
{
	struct world *w = *state;

	open_again(w);
	assert_null(w->secrets);
	assert_non_null(strstr(w->errors.data, "no secret: "));
	assert_non_null(strstr(w->errors.data, w->settings.secret_dir));
	assert_non_null(strstr(w->errors.data, "umask 077"));
	assert_non_null(strstr(w->errors.data, "openssl rand"));

	/* A default folder need not exist; one that is set must. */
	scratch_unlink(&w->scratch, "secrets");
	open_again(w);
	assert_null(w->secrets);
	assert_non_null(strstr(w->errors.data, "/secrets: No such file"));
	w->settings.secret_dir_given = false;
	open_again(w);
	assert_null(w->secrets);
	assert_non_null(strstr(w->errors.data, "no secret: "));
	assert_null(strstr(w->errors.data, "No such file"));
	w->settings.secret = xstrdup("one");
	open_good(w);
	expect_live(__LINE__, w, "default=one");
	/* The folder is read as soon as it exists. */
	scratch_mkdir(&w->scratch, "secrets", 0700);
	scratch_write(&w->scratch, "secrets/a", 0600, "two");
	expect_soon(__LINE__, w, "a=two default=one");
	assert_int_equal(logged(w, "level=error"), 0);

	settings_free(&w->settings);
	open_again(w);
	assert_null(w->secrets);
	assert_non_null(strstr(w->errors.data, "HUMCLI_WEBHOOK_SECRET_DIR="));
}

/* All faults are reported at once. */
static void test_all_faults(void **state)
{
	struct world *w = *state;

	w->settings.secret_file = scratch_path(&w->scratch, "missing");
	scratch_write(&w->scratch, "secrets/a", 0600, "");
	scratch_write(&w->scratch, "secrets/b", 0600, "fit");
	scratch_write(&w->scratch, "secrets/c\t", 0600, "fit");
	open_again(w);
	assert_null(w->secrets);
	assert_int_equal(count_of(w->errors.data, "\n"), 3);
	assert_non_null(strstr(w->errors.data, "/missing: No such file"));
	assert_non_null(strstr(w->errors.data, "/secrets/a: an empty secret"));
	assert_non_null(strstr(w->errors.data, "must be printable ASCII"));
}

static void test_added_changed_removed(void **state)
{
	struct world *w = *state;

	scratch_write(&w->scratch, "secrets/a", 0600, "one");
	open_good(w);
	expect_live(__LINE__, w, "a=one");
	scratch_write(&w->scratch, "secrets/b", 0600, "two");
	expect_soon(__LINE__, w, "a=one b=two");
	scratch_unlink(&w->scratch, "secrets/a");
	expect_soon(__LINE__, w, "b=two");
	scratch_write(&w->scratch, "secrets/b", 0600, "too");
	expect_soon(__LINE__, w, "b=too");
	scratch_rename(&w->scratch, "secrets/b", "secrets/c");
	expect_soon(__LINE__, w, "c=too");
	scratch_unlink(&w->scratch, "secrets/c");
	expect_soon(__LINE__, w, "");
	scratch_write(&w->scratch, "secrets/c", 0600, "back");
	expect_soon(__LINE__, w, "c=back");
	assert_int_equal(logged(w, "level=error"), 0);
	assert_int_equal(logged(w, "secrets changed"), 6);
}

/* Two writes within one clock tick, of the same length. */
static void test_overwritten_at_once(void **state)
{
	struct world *w = *state;

	for (int round = 0; round < 5; round++) {
		scratch_write(&w->scratch, "secrets/a", 0600, "one");
		open_good(w);
		scratch_write(&w->scratch, "secrets/a", 0600, "two");
		expect_soon(__LINE__, w, "a=two");
	}
}

/* Files that are unchanged for long are not read again. */
static void test_settled(void **state)
{
	struct world *w = *state;
	char *path = scratch_path(&w->scratch, "secrets/a");
	struct stat st;

	scratch_write(&w->scratch, "secrets/a", 0600, "one");
	assert_int_equal(stat(path, &st), 0);
	while (time(NULL) <= st.st_ctim.tv_sec + 2)
		pause_briefly();
	open_good(w);
	expect_live(__LINE__, w, "a=one");
	scratch_write(&w->scratch, "secrets/a", 0600, "two");
	expect_soon(__LINE__, w, "a=two");
	free(path);
}

/* Kubernetes changes a secret by one rename, which swaps all files. */
static void test_kubernetes(void **state)
{
	struct world *w = *state;
	const struct scratch *s = &w->scratch;

	scratch_mkdir(s, "secrets/..2026_1", 0755);
	scratch_write(s, "secrets/..2026_1/a", 0600, "one");
	scratch_symlink(s, "..2026_1", "secrets/..data");
	scratch_symlink(s, "..data/a", "secrets/a");
	open_good(w);
	expect_live(__LINE__, w, "a=one");
	scratch_mkdir(s, "secrets/..2026_2", 0755);
	scratch_write(s, "secrets/..2026_2/a", 0600, "two");
	scratch_symlink(s, "..2026_2", "secrets/..data_tmp");
	scratch_rename(s, "secrets/..data_tmp", "secrets/..data");
	scratch_unlink(s, "secrets/..2026_1/a");
	scratch_unlink(s, "secrets/..2026_1");
	expect_soon(__LINE__, w, "a=two");
	assert_int_equal(logged(w, "level=error"), 0);
}

/* A file that becomes invalid is left out alone, and logged once. */
static void test_later_faults(void **state)
{
	struct world *w = *state;
	const struct scratch *s = &w->scratch;

	scratch_write(s, "secrets/a", 0600, "one");
	open_good(w);
	scratch_write(s, "secrets/b", 0600, "");
	expect_logged(__LINE__, w, "/secrets/b: an empty secret");
	expect_live(__LINE__, w, "a=one");
	assert_int_equal(logged(w, "secrets changed"), 0);
	/* All files are read again, twice. */
	scratch_write(s, "secrets/c", 0600, "three");
	expect_soon(__LINE__, w, "a=one c=three");
	scratch_write(s, "secrets/d", 0600, "four");
	expect_soon(__LINE__, w, "a=one c=three d=four");
	assert_int_equal(logged(w, "/secrets/b: an empty secret"), 1);
	/* Fixed and invalid again, it is logged again. */
	scratch_write(s, "secrets/b", 0600, "two");
	expect_soon(__LINE__, w, "a=one b=two c=three d=four");
	scratch_write(s, "secrets/b", 0600, "\n");
	expect_soon(__LINE__, w, "a=one c=three d=four");
	assert_int_equal(logged(w, "/secrets/b: an empty secret"), 2);
	if (w->scratch.tmpfs)
		return;
	scratch_write(s, "secrets/a", 0644, "one");
	expect_soon(__LINE__, w, "c=three d=four");
	assert_int_equal(logged(w, "level=error"), 3);
	scratch_write(s, "secrets/a", 0600, "one");
	expect_soon(__LINE__, w, "a=one c=three d=four");
}

/* A removed folder has no secrets; SECRET_FILE keeps its own. */
static void test_folder_gone(void **state)
{
	struct world *w = *state;

	w->settings.secret = xstrdup("one");
	scratch_write(&w->scratch, "secrets/a", 0600, "two");
	open_good(w);
	scratch_rename(&w->scratch, "secrets", "elsewhere");
	expect_soon(__LINE__, w, "default=one");
	assert_int_equal(logged(w, "/secrets: No such file"), 1);
	scratch_rename(&w->scratch, "elsewhere", "secrets");
	expect_soon(__LINE__, w, "a=two default=one");
}

/*
 * Acquires secrets without a free descriptor until a failed check was logged.
 */
static void expect_kept(int line, struct world *w, const char *wanted)
{
	char *path = scratch_path(&w->scratch, "log");
	int log = open(path, O_RDONLY | O_CLOEXEC);
	int64_t start = monotonic_ms();
	struct rlimit old, none;
	struct stat before, now;
	bool kept = true;

	free(path);
	assert_true(log >= 0);
	assert_int_equal(fstat(log, &before), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)log + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	do {
		char *got = active(w);

		kept = kept && strcmp(got, wanted) == 0;
		free(got);
		pause_briefly();
	} while (fstat(log, &now) == 0 && now.st_size == before.st_size &&
		 monotonic_ms() - start < 5000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(log);
	if (!kept || now.st_size == before.st_size)
		fail_msg("line %d: %s", line, kept ? "not logged" : "lost");
}

/*
 * Without descriptors the old secrets stay active; changes take effect
 * afterwards.
 */
static void test_out_of_descriptors(void **state)
{
	struct world *w = *state;

	scratch_write(&w->scratch, "secrets/a", 0600, "one");
	open_good(w);
	scratch_write(&w->scratch, "secrets/b", 0600, "two");
	scratch_unlink(&w->scratch, "secrets/a");
	expect_kept(__LINE__, w, "a=one");
	assert_int_equal(logged(w, "/secrets: Too many open files"), 1);
	expect_soon(__LINE__, w, "b=two");

	free(w->settings.secret_dir);
	w->settings.secret_dir = NULL;
	w->settings.secret_file = scratch_path(&w->scratch, "secrets/b");
	open_good(w);
	scratch_write(&w->scratch, "secrets/b", 0600, "three");
	expect_kept(__LINE__, w, "b=two");
	assert_int_equal(logged(w, "/secrets/b: Too many open files"), 1);
	expect_soon(__LINE__, w, "b=three");
}

/* An acquired set does not change. */
static void test_held(void **state)
{
	struct world *w = *state;
	const struct secret_set *old, *again;

	scratch_write(&w->scratch, "secrets/a", 0600, "one");
	open_good(w);
	old = secrets_acquire(w->secrets);
	again = secrets_acquire(w->secrets);
	assert_ptr_equal(old, again);
	secrets_release(w->secrets, again);
	scratch_write(&w->scratch, "secrets/a", 0600, "two");
	expect_soon(__LINE__, w, "a=two");
	assert_int_equal(old->count, 1);
	assert_string_equal(old->list[0].name, "a");
	assert_memory_equal(old->list[0].key, "one", 3);
	secrets_release(w->secrets, old);
}

enum { THREADS = 4 };

struct readers {
	struct secrets *secrets;
	atomic_bool stop;
	atomic_uint wrong;
};

/* Expects that every set has one secret of eight equal letters. */
static void *look(void *argument)
{
	struct readers *readers = argument;

	while (!atomic_load(&readers->stop)) {
		const struct secret_set *set =
			secrets_acquire(readers->secrets);
		const unsigned char *key;

		key = set->count == 1 && set->list[0].length == 8
			      ? set->list[0].key
			      : (const unsigned char *)"-";
		for (int i = 1; i < 8 && key[0] != '-'; i++) {
			if (key[i] != key[0])
				atomic_fetch_add(&readers->wrong, 1);
		}
		if (key[0] == '-')
			atomic_fetch_add(&readers->wrong, 1);
		secrets_release(readers->secrets, set);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct world *w = *state;
	struct readers readers;
	pthread_t threads[THREADS];

	scratch_write(&w->scratch, "secrets/a", 0600, "aaaaaaaa");
	open_good(w);
	readers.secrets = w->secrets;
	atomic_init(&readers.stop, false);
	atomic_init(&readers.wrong, 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, look, &readers), 0);
	for (const char *letter = "bcde"; *letter; letter++) {
		char key[9] = "", *wanted;

		memset(key, *letter, 8);
		scratch_write(&w->scratch, "secrets/.new", 0600, key);
		scratch_rename(&w->scratch, "secrets/.new", "secrets/a");
		wanted = xasprintf("a=%s", key);
		expect_soon(__LINE__, w, wanted);
		free(wanted);
	}
	atomic_store(&readers.stop, true);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&readers.wrong), 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, make_world, remove_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_content),
		TEST(test_length),
		TEST(test_modes),
		TEST(test_in_memory_is_a_warning),
		TEST(test_suspicious_content),
		TEST(test_many),
		TEST(test_names),
		TEST(test_what_is_no_secret),
		TEST(test_sources),
		TEST(test_none),
		TEST(test_all_faults),
		TEST(test_added_changed_removed),
		TEST(test_overwritten_at_once),
		TEST(test_settled),
		TEST(test_kubernetes),
		TEST(test_later_faults),
		TEST(test_folder_gone),
		TEST(test_out_of_descriptors),
		TEST(test_held),
		TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
