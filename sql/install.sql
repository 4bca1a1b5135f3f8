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
\ir functions/record/lock_tasks.sql
\ir functions/record/beside.sql
\ir functions/notify/notify_gaps.sql
\ir functions/notify/notification.sql
\ir functions/notify/notify.sql
\ir functions/record/record_next.sql
\ir functions/record/record.sql
\ir functions/record/set_aside.sql
\ir functions/subscribe/payload.sql
\ir functions/subscribe/caller.sql
\ir functions/subscribe/whole_xid.sql
\ir functions/subscribe/reached.sql
\ir functions/subscribe/reach.sql
\ir functions/subscribe/restored.sql
\ir functions/subscribe/write_cursor.sql
\ir functions/subscribe/move.sql
\ir functions/subscribe/subscription.sql
\ir functions/subscribe/ahead.sql
\ir functions/subscribe/is_past.sql
\ir functions/subscribe/next_window.sql
\ir functions/subscribe/subscribe.sql
\ir functions/subscribe/fetch.sql
\ir functions/subscribe/ack.sql
\ir functions/subscribe/replay.sql
\ir functions/subscribe/seek.sql
\ir functions/subscribe/unsubscribe.sql
\ir functions/retention/purgeable.sql
\ir functions/retention/purge.sql
\ir functions/subscribe/rebase.sql
\ir plans.sql
\ir status.sql
\ir grants.sql

COMMIT;
