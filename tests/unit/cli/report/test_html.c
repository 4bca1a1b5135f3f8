/* What text from outside becomes on the page. */
#include "cli/report/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"

static void check_text(const char *text, size_t max, const char *shown)
{
	struct buf b = { 0 };

	buf_add(&b, "", 0);
	html_put_some(&b, text, max);
	assert_string_equal(b.data, shown);
	buf_free(&b);
}

static void test_markup(void **state)
{
	(void)state;
	check_text("", 10, "");
	check_text("task_abc123", 20, "task_abc123");
	check_text("<b a='1' c=\"2\">&amp;`", 99,
		   "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;&#96;");
	check_text("</svg><script>", 99, "&lt;/svg&gt;&lt;script&gt;");
	check_text("Ünïcödé 漢字 😀", 99, "Ünïcödé 漢字 😀");
}

static void test_invisible(void **state)
{
	(void)state;
	check_text("a\nb\tc\x1b[31m\x7f", 99,
		   "a\\u000ab\\u0009c\\u001b[31m\\u007f");
	/* It would reverse the text behind it. */
	check_text("evil\u202etxt.exe\u202c", 99, "evil\\u202etxt.exe\\u202c");
	check_text("\u2066\u2069\u200b\ufeff\u00ad", 99,
		   "\\u2066\\u2069\\u200b\\ufeff\\u00ad");
	check_text("\U000e0041\ue000\uffff", 99, "\\ue0041\\ue000\\uffff");
}

static void test_no_utf8(void **state)
{
	(void)state;
	check_text("\xff<", 99, "\\xff&lt;");
	/* cut off, overlong, a surrogate, too large */
	check_text("a\xc3", 99, "a\\xc3");
	check_text("\xe2\x80", 99, "\\xe2\\x80");
	check_text("\xc0\xbc", 99, "\\xc0\\xbc");
	check_text("\xe0\x80\xbc", 99, "\\xe0\\x80\\xbc");
	check_text("\xed\xa0\x80", 99, "\\ud800");
	check_text("\xf4\x90\x80\x80", 99, "\\xf4\\x90\\x80\\x80");
	check_text("\xf8\x88\x80\x80\x80", 99, "\\xf8\\x88\\x80\\x80\\x80");
}

static void test_long(void **state)
{
	char text[1000];
	struct buf b = { 0 };

	(void)state;
	check_text("12345", 5, "12345");
	check_text("123456", 5, "12345…");
	/* Characters count, not bytes, nor what they are escaped to. */
	check_text("äöü<>", 5, "äöü&lt;&gt;");
	check_text("a", 0, "…");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	html_put(&b, text);
	assert_int_equal(b.length, HTML_TEXT_MAX + strlen("…"));
	buf_free(&b);
}

static void check_number(uint64_t number, const char *shown)
{
	struct buf b = { 0 };

	html_put_number(&b, number);
	assert_string_equal(b.data, shown);
	buf_free(&b);
}

static void test_numbers(void **state)
{
	(void)state;
	check_number(0, "0");
	check_number(999, "999");
	check_number(1000, "1,000");
	check_number(1234567, "1,234,567");
	check_number(UINT64_MAX, "18,446,744,073,709,551,615");
}

static void check_duration(int64_t ms, const char *shown, const char *rough)
{
	struct buf b = { 0 };

	html_put_duration(&b, ms);
	assert_string_equal(b.data, shown);
	buf_free(&b);
	html_put_rough_duration(&b, ms);
	assert_string_equal(b.data, rough);
	buf_free(&b);
}

static void test_durations(void **state)
{
	(void)state;
	check_duration(-5, "0 ms", "0 ms");
	check_duration(0, "0 ms", "0 ms");
	check_duration(999, "999 ms", "999 ms");
	check_duration(1999, "1 s", "1 s");
	check_duration(61000, "1 min 1 s", "1 min");
	check_duration(3600000, "1 h", "1 h");
	check_duration(90061000, "1 d 1 h", "1 d");
}

static void check_size(uint64_t bytes, const char *shown)
{
	struct buf b = { 0 };

	html_put_size(&b, bytes);
	assert_string_equal(b.data, shown);
	buf_free(&b);
}

static void test_sizes(void **state)
{
	(void)state;
	check_size(0, "0 B");
	check_size(1023, "1023 B");
	check_size(4096, "4.0 KiB");
	check_size(256ULL << 20, "256.0 MiB");
	check_size(5000ULL << 30, "5000.0 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_markup),
		cmocka_unit_test(test_invisible),
		cmocka_unit_test(test_no_utf8),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
