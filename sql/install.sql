-- Installs the schema humcli, or brings it up to date; safe to run again.
--
--	psql -X -v ON_ERROR_STOP=1 -f install.sql
--
-- humcli.sql is this file with its parts put in, for those without psql.
-- ASCII only, so that no client_encoding can change what it says.

\set ON_ERROR_STOP on

BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

\ir schema.sql
\ir roles.sql
\ir tables.sql
\ir views.sql
\ir functions/payload.sql
\ir functions/lock_tasks.sql
\ir functions/beside.sql
\ir functions/notify_gaps.sql
\ir functions/notification.sql
\ir functions/notify.sql
\ir functions/record_next.sql
\ir functions/record.sql
\ir functions/set_aside.sql
\ir functions/caller.sql
\ir functions/whole_xid.sql
\ir functions/reached.sql
\ir functions/reach.sql
\ir functions/restored.sql
\ir functions/write_cursor.sql
\ir functions/move.sql
\ir functions/subscription.sql
\ir functions/ahead.sql
\ir functions/is_past.sql
\ir functions/next_window.sql
\ir functions/subscribe.sql
\ir functions/fetch.sql
\ir functions/ack.sql
\ir functions/replay.sql
\ir functions/seek.sql
\ir functions/unsubscribe.sql
\ir functions/purgeable.sql
\ir functions/purge.sql
\ir functions/rebase.sql
\ir plans.sql
\ir status.sql
\ir grants.sql

COMMIT;
