/* The spool: what goes in comes out; what is damaged does not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/macros.h"
#include "scratch.h"
#include "store/spool.h"

#define SIGNATURE \
	"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define OTHER "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const struct spool_entry entry = { .signature = SIGNATURE,
					  .secret_name = "main",
					  .body = "{\"a\":\"b\n\n\"}",
					  .length = 11,
					  .received_at = 1770287400123456 };

/* In place of the C library's: what was synced, in its order. */
static struct {
	ino_t list[16];
	size_t count;
} synced;

int fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && synced.count < ARRAY_SIZE(synced.list))
		synced.list[synced.count++] = st.st_ino;
	return (int)syscall(SYS_fsync, fd);
}

static int setup(void **state)
{
	struct scratch *s = xmalloc(sizeof(*s));

	scratch_make(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scratch *s = *state;

	scratch_remove(s);
	free(s);
	return 0;
}

static const char *dir_of(void **state)
{
	const struct scratch *s = *state;

	return s->path;
}

static char *path_of(const char *dir, const char *rest)
{
	return xasprintf("%s/spool/%s", dir, rest);
}

static struct spool *open_in(const char *dir, uint64_t max)
{
	char *path = xasprintf("%s/spool", dir);
	struct spool *s = spool_open(path, max);

	free(path);
	return s;
}

static size_t count(struct spool *s, enum spool_folder folder)
{
	struct spool_list list;
	size_t n;

	assert_true(spool_list(s, folder, &list));
	n = list.count;
	spool_list_free(&list);
	return n;
}

static void assert_entry(struct spool *s, const struct spool_entry *e)
{
	struct spool_file f;

	assert_int_equal(spool_read(s, SPOOL_NEW, e->signature, &f),
			 SPOOL_READ_OK);
	assert_string_equal(f.entry.signature, e->signature);
	assert_string_equal(f.entry.secret_name, e->secret_name);
	assert_int_equal(f.entry.length, e->length);
	assert_memory_equal(f.entry.body, e->body, e->length);
	assert_int_equal(f.entry.received_at, e->received_at);
	spool_file_free(&f);
}

/* By writing, not by asking: a full spool and a lost folder do not accept. */
static void test_accepts(void **state)
{
	static const struct {
		uint64_t max;
		const char *lost;
		bool accepts;
	} cases[] = {
		{ 1 << 20, NULL, true },
		{ 4095, NULL, false },
		{ 1 << 20, "new", false },
		{ 1 << 20, "tmp", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spool *s = open_in(dir_of(state), cases[i].max);
		char *path = path_of(dir_of(state),
				     cases[i].lost ? cases[i].lost : "");

		assert_non_null(s);
		if (cases[i].lost)
			assert_int_equal(rmdir(path), 0);
		assert_int_equal(spool_accepts(s), cases[i].accepts);
		assert_true(spool_is_empty(s));
		free(path);
		spool_close(s);
	}
}

static void test_there_and_back(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	struct stat st;
	char *path;

	assert_non_null(s);
	assert_true(spool_is_empty(s));
	assert_true(spool_put(s, &entry));
	assert_false(spool_is_empty(s));
	assert_entry(s, &entry);
	/* The same again is kept once. */
	assert_true(spool_put(s, &entry));
	assert_int_equal(count(s, SPOOL_NEW), 1);
	path = path_of(dir, "new/" SIGNATURE);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(path);
	path = path_of(dir, "");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	free(path);
	spool_remove(s, SIGNATURE);
	assert_int_equal(count(s, SPOOL_NEW), 0);
	spool_close(s);
}

static void assert_synced(size_t place, const char *dir, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	struct stat st;

	assert_true(place < synced.count);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(synced.list[place], st.st_ino);
	free(path);
}

/* From the folders down to the file, and each before the answer. */
static void test_survives_a_crash(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s;

	synced.count = 0;
	s = open_in(dir, 1 << 20);
	assert_int_equal(synced.count, 2);
	assert_synced(0, dir, "spool");
	assert_synced(1, dir, "");
	assert_true(spool_put(s, &entry));
	assert_int_equal(synced.count, 4);
	assert_synced(2, dir, "spool/new/" SIGNATURE);
	assert_synced(3, dir, "spool/new");
	/* One that was there already may not have been synced yet. */
	assert_true(spool_put(s, &entry));
	assert_synced(synced.count - 1, dir, "spool/new");
	spool_close(s);
	/* CGI opens it at each request. */
	synced.count = 0;
	s = open_in(dir, 1 << 20);
	assert_int_equal(synced.count, 0);
	spool_close(s);
}

static void test_zeros_in_the_body(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);
	struct spool_entry e = entry;

	e.body = "a\0b\0";
	e.length = 4;
	assert_true(spool_put(s, &e));
	assert_entry(s, &e);
	e.signature = OTHER;
	e.length = 0;
	assert_true(spool_put(s, &e));
	assert_entry(s, &e);
	spool_close(s);
}

/* Each counts as 4 KiB at least, a larger one as what it is. */
static void test_full(void **state)
{
	struct spool *s = open_in(dir_of(state), 3 * 4096);
	struct spool_entry e = entry;
	char signature[HMAC_HEX + 1];
	char *large = xcalloc(1, 8000);

	memcpy(signature, SIGNATURE, sizeof(signature));
	e.signature = signature;
	for (const char *digit = "123"; *digit; digit++) {
		signature[0] = *digit;
		assert_true(spool_put(s, &e));
	}
	signature[0] = '4';
	assert_false(spool_put(s, &e));
	assert_int_equal(count(s, SPOOL_NEW), 3);
	spool_close(s);

	s = open_in(dir_of(state), 4 * 4096);
	e.body = large;
	e.length = 8000;
	assert_false(spool_put(s, &e));
	spool_close(s);
	free(large);
}

static void put_text(const char *dir, const char *name, const char *text,
		     size_t length)
{
	char *path = path_of(dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_true(write_all(fd, text, length));
	close(fd);
	free(path);
}

#define HEAD "humcli-spool 1\nsignature: " SIGNATURE "\nsecret: main\n"

static void test_damage(void **state)
{
	static const struct {
		int line;
		const char *text;
		bool fine;
	} files[] = {
		{ __LINE__, HEAD "received: 1\nlength: 2\n\n{}", true },
		{ __LINE__, "", false },
		{ __LINE__, "humcli-spool 2\n", false },
		{ __LINE__, HEAD, false },
		{ __LINE__, HEAD "received: 1\nlength: 2\n", false },
		{ __LINE__, HEAD "received: 1\nlength: 2\n\n{", false },
		{ __LINE__, HEAD "received: 1\nlength: 2\n\n{}x", false },
		{ __LINE__, HEAD "received: -1\nlength: 2\n\n{}", false },
		{ __LINE__, HEAD "received: x\nlength: 2\n\n{}", false },
		{ __LINE__, HEAD "received: 1\nlength: 2x\n\n{}", false },
		{ __LINE__,
		  HEAD "received: 99999999999999999999\nlength: 2\n\n{}",
		  false },
		{ __LINE__, HEAD "length: 2\nreceived: 1\n\n{}", false },
		{ __LINE__,
		  "humcli-spool 1\nsignature: " OTHER
		  "\nsecret: main\nreceived: 1\nlength: 2\n\n{}",
		  false },
		{ __LINE__,
		  "humcli-spool 1\nsignature: x\nsecret: main\nreceived: 1\n"
		  "length: 2\n\n{}",
		  false },
		/* What PostgreSQL would refuse each time it is tried. */
		{ __LINE__,
		  "humcli-spool 1\nsignature: " SIGNATURE
		  "\nsecret: m\xffin\nreceived: 1\nlength: 2\n\n{}",
		  false },
		{ __LINE__,
		  "humcli-spool 1\nsignature: " SIGNATURE
		  "\nsecret: \nreceived: 1\nlength: 2\n\n{}",
		  false },
		{ __LINE__,
		  HEAD "received: 253402300799999999\nlength: 2\n\n{}", true },
		{ __LINE__,
		  HEAD "received: 253402300800000000\nlength: 2\n\n{}", false },
	};
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct spool_file f;

		print_message("line %d\n", files[i].line);
		put_text(dir, "new/" SIGNATURE, files[i].text,
			 strlen(files[i].text));
		assert_int_equal(spool_read(s, SPOOL_NEW, SIGNATURE, &f),
				 files[i].fine ? SPOOL_READ_OK
					       : SPOOL_READ_DAMAGED);
		spool_file_free(&f);
	}
	spool_close(s);
}

/* The same event under two names would be kept twice. */
static void test_capital_digits(void **state)
{
#define CAPITAL \
	"00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF"
	static const char text[] = "humcli-spool 1\nsignature: " CAPITAL
				   "\nsecret: main\nreceived: 1\n"
				   "length: 2\n\n{}";
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	struct spool_file f;

	put_text(dir, "new/" CAPITAL, text, strlen(text));
	assert_int_equal(spool_read(s, SPOOL_NEW, CAPITAL, &f),
			 SPOOL_READ_DAMAGED);
	spool_file_free(&f);
	spool_close(s);
}

/* What lies there under our name and is not ours must not swallow ours. */
static void test_damaged_namesake(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);

	put_text(dir, "new/" SIGNATURE, "half a fi", 9);
	assert_true(spool_put(s, &entry));
	assert_entry(s, &entry);
	assert_int_equal(count(s, SPOOL_FAILED), 1);
	spool_close(s);
}

static void test_fail_and_retry(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);

	assert_true(spool_put(s, &entry));
	spool_move_to_failed(s, SIGNATURE, "a test");
	assert_int_equal(count(s, SPOOL_NEW), 0);
	assert_int_equal(count(s, SPOOL_FAILED), 1);
	assert_true(spool_retry(s, SIGNATURE));
	assert_int_equal(count(s, SPOOL_FAILED), 0);
	assert_entry(s, &entry);
	spool_close(s);
}

/* What failed must not take the place of a whole one that waits. */
static void test_retry_replaces_nothing(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);

	put_text(dir, "failed/" SIGNATURE, "half a fi", 9);
	assert_true(spool_put(s, &entry));
	assert_false(spool_retry(s, SIGNATURE));
	assert_int_equal(errno, EEXIST);
	assert_entry(s, &entry);
	assert_int_equal(count(s, SPOOL_FAILED), 1);
	assert_false(spool_retry(s, OTHER));
	assert_int_equal(errno, ENOENT);
	spool_close(s);
}

/* No descriptor is left: that says nothing against the file. */
static void test_not_now(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);
	struct rlimit old, none = { 0 };
	struct spool_file f;

	assert_true(spool_put(s, &entry));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(spool_read(s, SPOOL_NEW, SIGNATURE, &f),
			 SPOOL_READ_LATER);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	spool_file_free(&f);
	assert_entry(s, &entry);
	spool_close(s);
}

static void test_links_are_not_followed(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	struct spool_file f;
	char *link = path_of(dir, "new/" SIGNATURE);

	put_text(dir, "elsewhere", HEAD "received: 1\nlength: 2\n\n{}",
		 sizeof(HEAD "received: 1\nlength: 2\n\n{}") - 1);
	assert_int_equal(symlink("../elsewhere", link), 0);
	assert_int_equal(spool_read(s, SPOOL_NEW, SIGNATURE, &f),
			 SPOOL_READ_DAMAGED);
	spool_file_free(&f);
	free(link);
	spool_close(s);
}

static void test_gone(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	struct spool_file f;
	char *new = path_of(dir, "new"), *away = path_of(dir, "away");

	assert_int_equal(spool_read(s, SPOOL_NEW, SIGNATURE, &f),
			 SPOOL_READ_GONE);
	spool_file_free(&f);
	assert_int_equal(rename(new, away), 0);
	assert_false(spool_put(s, &entry));
	assert_int_equal(rename(away, new), 0);
	assert_true(spool_put(s, &entry));
	free(new);
	free(away);
	spool_close(s);
}

static void test_oldest_first(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);
	struct spool_entry e = entry;
	struct spool_list list;

	e.signature = OTHER;
	assert_true(spool_put(s, &e));
	usleep(20000); /* coarse clocks of file systems */
	assert_true(spool_put(s, &entry));
	assert_true(spool_list(s, SPOOL_NEW, &list));
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].name, OTHER);
	assert_string_equal(list.items[1].name, SIGNATURE);
	spool_list_free(&list);
	spool_close(s);
}

/* Where a file system keeps any time there is. */
static void test_impossible_times(void **state)
{
	static const struct {
		int64_t seconds;
		int64_t mtime;
	} times[] = {
		{ INT64_MIN / 2, 0 },
		{ -1, 0 },
		{ 1, 1000000 },
		{ INT64_MAX / 2, 253402300799999999 },
	};
	struct scratch memory;

	(void)state;
	if (!scratch_make_in_memory(&memory))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		struct timespec t[2] = { { .tv_sec = times[i].seconds },
					 { .tv_sec = times[i].seconds } };
		struct spool *s = open_in(memory.path, 1 << 20);
		struct spool_list list;
		char *path = path_of(memory.path, "new/" SIGNATURE);

		assert_true(spool_put(s, &entry));
		assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
		assert_true(spool_list(s, SPOOL_NEW, &list));
		assert_int_equal(list.items[0].mtime, times[i].mtime);
		spool_list_free(&list);
		spool_remove(s, SIGNATURE);
		spool_close(s);
		free(path);
	}
	scratch_remove(&memory);
}

static void test_one_drains(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);
	int first = spool_lock(s);

	assert_true(first >= 0);
	assert_int_equal(spool_lock(s), -1);
	spool_unlock(first);
	first = spool_lock(s);
	assert_true(first >= 0);
	spool_unlock(first);
	spool_close(s);
}

static void test_not_private(void **state)
{
	const char *dir = dir_of(state);
	char *path = path_of(dir, "");

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0770), 0);
	assert_null(open_in(dir, 1 << 20));
	assert_int_equal(chmod(path, 0700), 0);
	free(path);
	assert_null(spool_open("", 1 << 20));
	assert_null(spool_open("/dev/null/spool", 1 << 20));
}

int main(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(test_accepts),
		IN_SCRATCH(test_there_and_back),
		IN_SCRATCH(test_survives_a_crash),
		IN_SCRATCH(test_zeros_in_the_body),
		IN_SCRATCH(test_full),
		IN_SCRATCH(test_damage),
		IN_SCRATCH(test_capital_digits),
		IN_SCRATCH(test_damaged_namesake),
		IN_SCRATCH(test_fail_and_retry),
		IN_SCRATCH(test_retry_replaces_nothing),
		IN_SCRATCH(test_not_now),
		IN_SCRATCH(test_links_are_not_followed),
		IN_SCRATCH(test_gone),
		IN_SCRATCH(test_oldest_first),
		cmocka_unit_test(test_impossible_times),
		IN_SCRATCH(test_one_drains),
		IN_SCRATCH(test_not_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
