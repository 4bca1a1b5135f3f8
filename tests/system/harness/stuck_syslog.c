/*
 * A library for LD_PRELOAD. syslog() never returns, as with a /dev/log that
 * nobody reads. With fortified headers it is called __syslog_chk().
 */
#include <unistd.h>

void syslog(int priority, const char *format, ...);
void __syslog_chk(int priority, int flag, const char *format, ...);

void syslog(int priority, const char *format, ...)
{
	(void)priority;
	(void)format;
	for (;;)
		pause();
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
	(void)flag;
	syslog(priority, format);
}
