/* The sums of the spool: room, reservations, and scans by others. */
#include "store/spool_count.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/macros.h"

enum { FILE_BYTES = 4096 }; /* what a small file counts as */

/* A folder that is counted, and how often that was. */
struct folder {
	struct spool_sum sum;
	bool unreadable;
	unsigned scans;
};

static bool scan(void *context, struct spool_sum *found)
{
	struct folder *f = context;

	f->scans++;
	if (f->unreadable)
		return false;
	found->bytes += f->sum.bytes;
	found->files += f->sum.files;
	return true;
}

/* Makes the folder hold so many small files. */
static void set_files(struct folder *f, uint64_t files)
{
	f->sum = (struct spool_sum){ .bytes = files * FILE_BYTES,
				     .files = files };
}

static void assert_sum(struct spool_count *c, uint64_t files, uint64_t bytes)
{
	struct spool_sum sum = spool_count_sum(c);

	assert_int_equal(sum.files, files);
	assert_int_equal(sum.bytes, bytes);
}

/* A small file counts as 4 KiB, a larger one as what it is. */
static void test_charges(void **state)
{
	static const struct {
		uint64_t size, charge;
	} cases[] = {
		{ 0, 4096 },	{ 1, 4096 },	{ 4095, 4096 },
		{ 4096, 4096 }, { 4097, 4097 }, { 1 << 20, 1 << 20 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spool_sum sum = { .bytes = 10, .files = 1 };

		spool_sum_add(&sum, cases[i].size);
		assert_int_equal(sum.bytes, 10 + cases[i].charge);
		assert_int_equal(sum.files, 2);
	}
}

/* A reservation counts until it is settled, and then only if it was kept. */
static void test_reservations(void **state)
{
	struct folder f = { .sum = { .bytes = FILE_BYTES, .files = 1 } };
	struct spool_count *c = spool_count_new(scan, &f);

	(void)state;
	assert_true(spool_count_reserve(c, 100, 3 * FILE_BYTES));
	assert_true(spool_count_reserve(c, 100, 3 * FILE_BYTES));
	assert_false(spool_count_reserve(c, 100, 3 * FILE_BYTES));
	spool_count_settle(c, 100, false);
	assert_true(spool_count_reserve(c, 100, 3 * FILE_BYTES));
	spool_count_settle(c, 100, true);
	spool_count_settle(c, 100, true);
	set_files(&f, 3);
	assert_sum(c, 3, 3 * FILE_BYTES);
	spool_count_remove(c, 100);
	set_files(&f, 2);
	assert_sum(c, 2, 2 * FILE_BYTES);
	spool_count_free(c);
}

/* The sums never go below zero, whatever other processes removed. */
static void test_removed_by_others(void **state)
{
	struct folder f = { 0 };
	struct spool_count *c = spool_count_new(scan, &f);

	(void)state;
	assert_sum(c, 0, 0);
	spool_count_remove(c, 1 << 20);
	assert_sum(c, 0, 0);
	spool_count_free(c);
}

/*
 * A count by the drainer: files that come meanwhile are added to what it found,
 * files being written are counted, too.
 */
static void test_count_by_drainer(void **state)
{
	struct folder f = { 0 };
	struct spool_count *c = spool_count_new(scan, &f);
	const struct spool_sum found = { .bytes = 5 * FILE_BYTES, .files = 5 };

	(void)state;
	assert_sum(c, 0, 0);
	assert_true(spool_count_begin(c));
	assert_false(spool_count_begin(c)); /* one scan at a time */
	assert_true(spool_count_reserve(c, 1, UINT64_MAX));
	assert_true(spool_count_reserve(c, 1, UINT64_MAX));
	spool_count_settle(c, 1, true);
	set_files(&f, 6);
	spool_count_end(c, &found);
	assert_sum(c, 7, 7 * FILE_BYTES);
	set_files(&f, 7);
	spool_count_settle(c, 1, true);
	assert_sum(c, 7, 7 * FILE_BYTES);
	spool_count_free(c);
}

/* A folder that can't be read leaves the sums as they were. */
static void test_unreadable(void **state)
{
	struct folder f = { .unreadable = true };
	struct spool_count *c = spool_count_new(scan, &f);

	(void)state;
	assert_true(spool_count_reserve(c, 1, FILE_BYTES));
	spool_count_settle(c, 1, true);
	assert_true(spool_count_begin(c));
	spool_count_end(c, NULL);
	assert_sum(c, 1, FILE_BYTES);
	spool_count_free(c);
}

/* Before an event is refused, an uncertain sum is corrected by a scan. */
static void test_full(void **state)
{
	struct folder f = { .sum = { .bytes = 2 * FILE_BYTES, .files = 2 } };
	struct spool_count *c = spool_count_new(scan, &f);
	unsigned scans;

	(void)state;
	assert_sum(c, 2, 2 * FILE_BYTES);
	assert_true(spool_count_begin(c));
	spool_count_remove(c, 1);
	spool_count_end(c, &f.sum); /* the scan may have seen that file */
	set_files(&f, 1);
	scans = f.scans;
	assert_true(spool_count_reserve(c, 1, 2 * FILE_BYTES));
	assert_true(f.scans > scans);
	spool_count_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charges),
		cmocka_unit_test(test_reservations),
		cmocka_unit_test(test_removed_by_others),
		cmocka_unit_test(test_count_by_drainer),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
