/* What may help against a fault of the database. Pure functions. */
#ifndef DOCTOR_REMEDIES_H
#define DOCTOR_REMEDIES_H

/* Returns the fix for a statement that failed with this SQLSTATE. */
const char *remedy_for_sqlstate(const char *sqlstate);
/* Returns the fix for a connection that failed so, in libpq's words. */
const char *remedy_for_connection(const char *failure);

#endif
