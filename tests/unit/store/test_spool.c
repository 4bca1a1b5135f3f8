/*
 * The spool: what goes in comes out; what is damaged does not. The system calls
 * below are in place of the C library's, so that a test can make the file
 * system one that lacks links, syncs, locks or room.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
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

/* The files and folders that were synced, in their order. */
static struct {
	ino_t list[16];
	size_t count;
} synced;

/* What the file system can't do: an errno, or 0. */
static struct {
	int link;
	int rename_flag;
	int sync_folder;
	int lock;
	int mkdir;
	int create_lock_file;
	bool mounts; /* each folder of the spool is a file system of its own */
	bool sweep; /* a link finds its file removed, once */
} faults;

/* A reader of a folder that waits in readdir(). */
static struct {
	pthread_t thread;
	atomic_bool hold; /* readdir() of this thread waits */
	atomic_bool waits; /* it does */
} reader;

static int fail_with(int error)
{
	errno = error;
	return -1;
}

int fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && faults.sync_folder)
		return fail_with(faults.sync_folder);
	if (fstat(fd, &st) == 0 && synced.count < ARRAY_SIZE(synced.list))
		synced.list[synced.count++] = st.st_ino;
	return (int)syscall(SYS_fsync, fd);
}

/* Returns true if two names are in different folders of the spool. */
static bool crosses_mounts(const char *old, const char *new)
{
	size_t length = strcspn(old, "/");

	return faults.mounts &&
	       (strcspn(new, "/") != length || strncmp(old, new, length) != 0);
}

int linkat(int old_fd, const char *old, int new_fd, const char *new, int flags)
{
	if (faults.sweep) {
		faults.sweep = false;
		assert_int_equal(unlinkat(old_fd, old, 0), 0);
	}
	if (faults.link)
		return fail_with(faults.link);
	if (crosses_mounts(old, new))
		return fail_with(EXDEV);
	return (int)syscall(SYS_linkat, old_fd, old, new_fd, new, flags);
}

int renameat2(int old_fd, const char *old, int new_fd, const char *new,
	      unsigned flags)
{
	if (flags && faults.rename_flag)
		return fail_with(faults.rename_flag);
	if (crosses_mounts(old, new))
		return fail_with(EXDEV);
	return (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, flags);
}

int renameat(int old_fd, const char *old, int new_fd, const char *new)
{
	return renameat2(old_fd, old, new_fd, new, 0);
}

int flock(int fd, int operation)
{
	if (faults.lock)
		return fail_with(faults.lock);
	return (int)syscall(SYS_flock, fd, operation);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
	if (faults.mkdir && faccessat(fd, path, F_OK, 0) < 0)
		return fail_with(faults.mkdir);
	return (int)syscall(SYS_mkdirat, fd, path, mode);
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list arguments;

	va_start(arguments, flags);
	if (flags & O_CREAT)
		mode = va_arg(arguments, mode_t);
	va_end(arguments);
	if (faults.create_lock_file && strstr(path, "drain.lock"))
		return fail_with(faults.create_lock_file);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

struct dirent *readdir(DIR *dir)
{
	typedef struct dirent *readdir_fn(DIR *);
	readdir_fn *real = (readdir_fn *)dlsym(RTLD_NEXT, "readdir");

	if (atomic_load(&reader.hold) &&
	    pthread_equal(pthread_self(), reader.thread)) {
		atomic_store(&reader.waits, true);
		while (atomic_load(&reader.hold))
			usleep(1000);
	}
	return real(dir);
}

static int setup(void **state)
{
	struct scratch *s = xmalloc(sizeof(*s));

	scratch_make(s);
	memset(&faults, 0, sizeof(faults));
	synced.count = 0;
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

/* By writing, not by asking: a full spool accepts nothing. */
static void test_accepts(void **state)
{
	static const struct {
		uint64_t max;
		const char *lost;
		bool accepts;
	} cases[] = {
		{ 1 << 20, NULL, true },
		{ 4095, NULL, false },
		{ 1 << 20, "new", true },
		{ 1 << 20, "tmp", true },
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

/*
 * Expects that the file, and the folders up to the spool's parent, were synced
 * before the answer.
 */
static void assert_first_put_is_synced(const char *dir, struct spool *s)
{
	synced.count = 0;
	assert_true(spool_put(s, &entry));
	assert_int_equal(synced.count, 4);
	assert_synced(0, dir, "spool/new/" SIGNATURE);
	assert_synced(1, dir, "spool/new");
	assert_synced(2, dir, "spool");
	assert_synced(3, dir, "");
}

static void test_survives_a_crash(void **state)
{
	const char *dir = dir_of(state);
	struct spool_entry other = entry;
	struct spool *s;

	s = open_in(dir, 1 << 20);
	/* CGI opens it at each request. */
	assert_int_equal(synced.count, 0);
	assert_first_put_is_synced(dir, s);
	/* A file that was there already may not have been synced yet. */
	synced.count = 0;
	assert_true(spool_put(s, &entry));
	assert_int_equal(synced.count, 1);
	assert_synced(0, dir, "spool/new");
	synced.count = 0;
	other.signature = OTHER;
	assert_true(spool_put(s, &other));
	assert_int_equal(synced.count, 2);
	spool_close(s);
}

/* A process that made the folders may have died before it synced them. */
static void test_folders_of_a_dead_process(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);

	spool_close(s);
	s = open_in(dir, 1 << 20);
	assert_first_put_is_synced(dir, s);
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

/* A foreign file of the same name must not replace our event. */
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

/* A failed file must not replace a whole one that waits. */
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
	struct spool *s = open_in(dir_of(state), 1 << 20);
	struct spool_file f;

	assert_int_equal(spool_read(s, SPOOL_NEW, SIGNATURE, &f),
			 SPOOL_READ_GONE);
	spool_file_free(&f);
	spool_close(s);
}

/* Folders that are removed meanwhile are made again, and synced. */
static void test_folder_removed(void **state)
{
	static const char *const lost[] = { "", "tmp", "new", "failed" };
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);

	for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
		char *old = path_of(dir, lost[i]);
		char *away = xasprintf("%s/away%zu", dir, i);
		struct spool_list list;

		print_message("%s\n", lost[i]);
		assert_true(spool_put(s, &entry));
		if (!*lost[i])
			old[strlen(old) - 1] = '\0';
		assert_int_equal(rename(old, away), 0);
		assert_true(spool_put(s, &entry));
		assert_entry(s, &entry);
		assert_true(spool_accepts(s));
		assert_true(spool_list(s, SPOOL_FAILED, &list));
		spool_list_free(&list);
		free(old);
		free(away);
	}
	spool_close(s);
}

/* Also the drainer makes it again. */
static void test_folder_removed_before_a_drain(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	char *path = xasprintf("%s/spool", dir),
	     *away = path_of(dir, "../away");

	assert_int_equal(rename(path, away), 0);
	assert_int_equal(count(s, SPOOL_NEW), 0);
	spool_unlock(spool_lock(s));
	free(path);
	free(away);
	spool_close(s);
}

/* File systems that lack something. */

static void open_log(const char *dir)
{
	char *path = xasprintf("%s/log", dir);

	assert_true(log_open(path, LEVEL_INFO));
	free(path);
}

static size_t lines_with(void **state, const char *text)
{
	char *log = scratch_read(*state, "log");
	size_t n = count_of(log, text);

	free(log);
	return n;
}

/* Puts, repeats, replaces a damaged one, and moves there and back. */
static void assert_all_works(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	struct spool_entry other = entry;
	char *tmp = path_of(dir, "tmp");

	assert_true(spool_accepts(s));
	assert_true(spool_put(s, &entry));
	assert_true(spool_put(s, &entry));
	assert_int_equal(count(s, SPOOL_NEW), 1);
	assert_entry(s, &entry);
	spool_move_to_failed(s, SIGNATURE, "a test");
	assert_int_equal(count(s, SPOOL_NEW), 0);
	assert_int_equal(count(s, SPOOL_FAILED), 1);
	assert_true(spool_put(s, &entry));
	assert_false(spool_retry(s, SIGNATURE));
	assert_int_equal(errno, EEXIST);
	spool_remove(s, SIGNATURE);
	assert_true(spool_retry(s, SIGNATURE));
	assert_entry(s, &entry);
	other.signature = OTHER;
	put_text(dir, "new/" OTHER, "half a fi", 9);
	assert_true(spool_put(s, &other));
	assert_entry(s, &other);
	assert_int_equal(count(s, SPOOL_FAILED), 1);
	assert_int_equal(rmdir(tmp), 0);
	free(tmp);
	spool_remove(s, SIGNATURE);
	spool_remove(s, OTHER);
	assert_true(spool_is_empty(s));
	spool_close(s);
}

static void test_no_links(void **state)
{
	static const int links[] = { EPERM,  EOPNOTSUPP, ENOSYS, EMLINK,
				     EINVAL, EIO,	 EACCES };
	static const int flags[] = { 0, EINVAL, ENOSYS, EPERM };

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(flags); k++) {
			print_message("%s, %s\n", strerror(links[i]),
				      strerror(flags[k]));
			faults.link = links[i];
			faults.rename_flag = flags[k];
			assert_all_works(state);
			teardown(state);
			setup(state);
		}
	}
}

static void test_own_mounts(void **state)
{
	faults.mounts = true;
	assert_all_works(state);
}

static void test_own_mounts_without_links(void **state)
{
	faults.mounts = true;
	faults.link = EPERM;
	faults.rename_flag = EINVAL;
	assert_all_works(state);
}

static void test_folders_can_not_be_synced(void **state)
{
	static const int errors[] = { EINVAL, ENOTSUP, ENOSYS };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		open_log(dir_of(state));
		faults.sync_folder = errors[i];
		assert_all_works(state);
		assert_int_equal(lines_with(state, "can't sync folders"), 1);
		assert_true(log_open("stderr", LEVEL_INFO));
		teardown(state);
		setup(state);
	}
}

/* EIO of fsync() says that the disk lost data. */
static void test_sync_fails(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);

	faults.sync_folder = EIO;
	assert_false(spool_accepts(s));
	assert_false(spool_put(s, &entry));
	faults.sync_folder = 0;
	assert_true(spool_put(s, &entry));
	spool_close(s);
}

static void test_no_locks(void **state)
{
	static const int errors[] = { ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct spool *s = open_in(dir_of(state), 1 << 20);
		int locks[2];

		open_log(dir_of(state));
		faults.lock = errors[i];
		for (size_t k = 0; k < ARRAY_SIZE(locks); k++) {
			locks[k] = spool_lock(s);
			assert_true(locks[k] >= 0);
		}
		for (size_t k = 0; k < ARRAY_SIZE(locks); k++)
			spool_unlock(locks[k]);
		assert_int_equal(lines_with(state, "can't lock spool"), 1);
		assert_true(log_open("stderr", LEVEL_INFO));
		assert_true(spool_put(s, &entry));
		spool_close(s);
		teardown(state);
		setup(state);
	}
}

/* No inodes or quota are left: events that wait are drained all the same. */
static void test_no_room_for_folders(void **state)
{
	static const int errors[] = { ENOSPC, EDQUOT };
	const char *dir = dir_of(state);

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct spool *s = open_in(dir, 1 << 20);
		char *tmp = path_of(dir, "tmp"),
		     *lock = path_of(dir, "drain.lock");
		int first;

		assert_true(spool_put(s, &entry));
		spool_close(s);
		assert_int_equal(rmdir(tmp), 0);
		faults.mkdir = faults.create_lock_file = errors[i];
		s = open_in(dir, 1 << 20);
		assert_true(spool_is_usable(s));
		first = spool_lock(s);
		assert_true(first >= 0);
		assert_int_equal(spool_lock(s), -1);
		assert_int_equal(errno, EWOULDBLOCK);
		spool_unlock(first);
		assert_entry(s, &entry);
		assert_false(spool_accepts(s));
		spool_remove(s, SIGNATURE);
		assert_false(spool_put(s, &entry));
		faults.mkdir = faults.create_lock_file = 0;
		assert_true(spool_put(s, &entry));
		spool_close(s);
		free(tmp);
		free(lock);
	}
}

/* Clocks. */

/* A wrong clock leaves a time that can be read again. */
static void test_time_of_receipt(void **state)
{
	static const struct {
		int64_t given, kept;
	} times[] = { { -1, 0 },
		      { INT64_MIN, 0 },
		      { 0, 0 },
		      { 253402300799999999, 253402300799999999 },
		      { 253402300800000000, 253402300799999999 },
		      { INT64_MAX, 253402300799999999 } };
	struct spool *s = open_in(dir_of(state), 1 << 20);

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		struct spool_entry e = entry, kept = entry;

		e.received_at = times[i].given;
		kept.received_at = times[i].kept;
		assert_true(spool_put(s, &e));
		assert_entry(s, &kept);
		spool_remove(s, SIGNATURE);
	}
	spool_close(s);
}

static int make_tmp_file(const char *dir, const char *name, time_t age)
{
	const struct timespec then = { .tv_sec = time(NULL) - age };
	const struct timespec times[2] = { then, then };
	char *path = xasprintf("%s/spool/tmp/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	free(path);
	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, times), 0);
	return fd;
}

/* A clock that jumps makes the file of a live writer look old. */
static void test_stale_files(void **state)
{
	const char *dir = dir_of(state);
	struct spool *s = open_in(dir, 1 << 20);
	int dead = make_tmp_file(dir, "dead", 4000);
	int young = make_tmp_file(dir, "young", 100);
	int live = make_tmp_file(dir, "live", 4000);
	static const struct {
		const char *name;
		bool stays;
	} files[] = { { "dead", false }, { "young", true }, { "live", true } };

	assert_int_equal(flock(live, LOCK_EX), 0);
	close(dead);
	close(young);
	spool_close(s);
	s = open_in(dir, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *path = xasprintf("%s/spool/tmp/%s", dir, files[i].name);

		assert_int_equal(access(path, F_OK) == 0, files[i].stays);
		free(path);
	}
	close(live);
	spool_close(s);
}

/* Where no lock protects a writer, it writes its file again. */
static void test_live_file_removed(void **state)
{
	struct spool *s = open_in(dir_of(state), 1 << 20);

	faults.sweep = true;
	assert_true(spool_put(s, &entry));
	assert_false(faults.sweep);
	assert_entry(s, &entry);
	spool_close(s);
}

/* Counting. */

/* A redelivery of what is there already takes no room. */
static void test_repeats_are_not_counted(void **state)
{
	struct spool *s = open_in(dir_of(state), 2 * 4096);
	struct spool_entry other = entry;

	for (int i = 0; i < 5; i++)
		assert_true(spool_put(s, &entry));
	other.signature = OTHER;
	for (int i = 0; i < 5; i++)
		assert_true(spool_put(s, &other));
	/* Also while it is full. */
	assert_true(spool_put(s, &entry));
	other.signature = CAPITAL;
	assert_false(spool_put(s, &other));
	/* A removed file makes room at once. */
	spool_remove(s, SIGNATURE);
	assert_true(spool_put(s, &entry));
	spool_move_to_failed(s, OTHER, "a test");
	other.signature = OTHER;
	assert_true(spool_put(s, &other));
	spool_close(s);
}

enum { READS_LIST, READS_EMPTY, READS_ACCEPTS, READS };

struct reading {
	struct spool *spool;
	int kind;
};

static void *read_folder(void *context)
{
	const struct reading *r = context;
	struct spool_list list;

	reader.thread = pthread_self();
	atomic_store(&reader.hold, true);
	if (r->kind == READS_LIST && spool_list(r->spool, SPOOL_NEW, &list))
		spool_list_free(&list);
	else if (r->kind == READS_EMPTY)
		(void)!spool_is_empty(r->spool);
	else if (r->kind == READS_ACCEPTS)
		(void)!spool_accepts(r->spool);
	return NULL;
}

/* A folder of 300,000 files takes a second to read; nobody waits for that. */
static void test_nothing_waits_for_a_scan(void **state)
{
	for (int kind = 0; kind < READS; kind++) {
		struct reading r = { open_in(dir_of(state), 1 << 20), kind };
		struct spool_entry other = entry;
		pthread_t thread;
		int64_t limit = monotonic_ms() + 20000;

		atomic_store(&reader.waits, false);
		assert_int_equal(pthread_create(&thread, NULL, read_folder, &r),
				 0);
		while (!atomic_load(&reader.waits)) {
			assert_true(monotonic_ms() < limit);
			usleep(1000);
		}
		assert_true(spool_put(r.spool, &entry));
		other.signature = OTHER;
		assert_true(spool_put(r.spool, &other));
		(void)!spool_is_empty(r.spool);
		spool_remove(r.spool, SIGNATURE);
		atomic_store(&reader.hold, false);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_false(spool_is_empty(r.spool));
		spool_remove(r.spool, OTHER);
		spool_close(r.spool);
	}
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

/* A file system may keep any time at all. */
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
	struct spool *s;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0770), 0);
	s = open_in(dir, 1 << 20);
	assert_false(spool_is_usable(s));
	assert_false(spool_put(s, &entry));
	assert_int_equal(spool_lock(s), -1);
	/* The next put uses a folder that was fixed. */
	assert_int_equal(chmod(path, 0700), 0);
	assert_true(spool_put(s, &entry));
	assert_true(spool_is_usable(s));
	spool_close(s);
	free(path);
	assert_null(spool_open("", 1 << 20));
	s = spool_open("/dev/null/spool", 1 << 20);
	assert_false(spool_is_usable(s));
	spool_close(s);
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
		IN_SCRATCH(test_folders_of_a_dead_process),
		IN_SCRATCH(test_folder_removed),
		IN_SCRATCH(test_folder_removed_before_a_drain),
		IN_SCRATCH(test_no_links),
		IN_SCRATCH(test_own_mounts),
		IN_SCRATCH(test_own_mounts_without_links),
		IN_SCRATCH(test_folders_can_not_be_synced),
		IN_SCRATCH(test_sync_fails),
		IN_SCRATCH(test_no_locks),
		IN_SCRATCH(test_no_room_for_folders),
		IN_SCRATCH(test_time_of_receipt),
		IN_SCRATCH(test_stale_files),
		IN_SCRATCH(test_live_file_removed),
		IN_SCRATCH(test_repeats_are_not_counted),
		IN_SCRATCH(test_nothing_waits_for_a_scan),
		IN_SCRATCH(test_oldest_first),
		cmocka_unit_test(test_impossible_times),
		IN_SCRATCH(test_one_drains),
		IN_SCRATCH(test_not_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
