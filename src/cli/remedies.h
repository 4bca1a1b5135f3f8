/* Advice on faults of the database. Pure functions. */
#ifndef REMEDIES_H
#define REMEDIES_H

/* The fix for a connection string that can't be read. */
extern const char remedy_for_conninfo[];

/*
 * Returns the fix for a statement that failed with this SQLSTATE; NULL if none
 * is known.
 */
const char *remedy_for_sqlstate(const char *sqlstate);
/* Returns the fix for a connection that failed so, in libpq's words. */
const char *remedy_for_connection(const char *failure);

#endif
