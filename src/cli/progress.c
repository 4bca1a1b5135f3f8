/*
 * Owns the line of progress on stderr. Must not know the work. The line
 * replaces itself, and is gone when the work is done.
 */
#include "cli/progress.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_MS = 300, AGAIN_MS = 200 };

#define CLEAR_LINE "\r\x1b[K"

bool progress_is_seen(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDERR_FILENO) && terminal && *terminal &&
	       strcmp(terminal, "dumb") != 0;
}

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
	*p = (struct progress){ .what = what,
				.total = total,
				.start = monotonic_ms(),
				.on = progress_is_seen() };
	p->shown_at = p->start + FIRST_MS - AGAIN_MS;
}

/* Appends the time that the rest takes at the rate so far. */
static void put_time_left(struct buf *b, uint64_t s)
{
	if (s >= 3600)
		buf_printf(b, ", %llu h %llu min left",
			   (unsigned long long)(s / 3600),
			   (unsigned long long)(s % 3600 / 60));
	else if (s >= 60)
		buf_printf(b, ", %llu min %llu s left",
			   (unsigned long long)(s / 60),
			   (unsigned long long)(s % 60));
	else
		buf_printf(b, ", %llu s left", (unsigned long long)s);
}

void progress_show(struct progress *p, uint64_t done)
{
	int64_t now = monotonic_ms();
	double rate;
	struct buf line = { 0 };

	if (!p->on || now < p->shown_at + AGAIN_MS)
		return;
	p->shown_at = now;
	p->shown = true;
	rate = (double)done * 1000 / (double)max_i64(now - p->start, 1);
	buf_printf(&line, CLEAR_LINE "%llu", (unsigned long long)done);
	if (p->total)
		buf_printf(&line, " of %llu", (unsigned long long)p->total);
	buf_printf(&line, " %s", p->what);
	if (p->total && done <= p->total)
		buf_printf(&line, ", %llu %%",
			   (unsigned long long)(done * 100 / p->total));
	buf_printf(&line, ", %.*f a second", rate < 10 ? 1 : 0, rate);
	if (p->total && done && done <= p->total)
		put_time_left(&line,
			      (uint64_t)((double)(p->total - done) / rate + 1));
	fputs(line.data, stderr);
	fflush(stderr);
	buf_free(&line);
}

void progress_clear(struct progress *p)
{
	if (!p->shown)
		return;
	p->shown = false;
	fputs(CLEAR_LINE, stderr);
	fflush(stderr);
}
