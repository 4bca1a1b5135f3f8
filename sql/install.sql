-- Installs the schema humcli, or upgrades it. Safe to run again.
--
--	psql -X -v ON_ERROR_STOP=1 -f install.sql
--
-- humcli.sql is this file with its parts put in, for users without psql. All
-- parts are ASCII, so that no client_encoding can change them.

\set ON_ERROR_STOP on

BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = 0;
SET LOCAL lock_timeout = '10s';
SET LOCAL client_min_messages = notice;

\ir schema.sql
\ir roles.sql
\ir tables.sql
\ir functions/notify/event_types.sql
\ir functions/notify/time_before.sql
\ir functions/notify/order_equal_times.sql
\ir functions/reconcile/is_status_read.sql
\ir views.sql
\ir functions/record/repair_identity.sql
\ir functions/record/identities_behind.sql
\ir functions/record/lock_tasks.sql
\ir functions/record/eventless_half.sql
\ir functions/record/history_neighbor.sql
\ir functions/notify/opened_gaps.sql
\ir functions/notify/notification_payload.sql
\ir functions/notify/notify.sql
\ir functions/record/record_next.sql
\ir functions/record/record_batch.sql
\ir functions/record/quarantine_add.sql
\ir functions/reconcile/record_status_read.sql
\ir functions/reconcile/add_reading.sql
\ir functions/reconcile/add_reconcile_run.sql
\ir functions/subscribe/payload.sql
\ir functions/subscribe/calling_role.sql
\ir functions/subscribe/xid_to_bigint.sql
\ir functions/subscribe/complete_snapshot.sql
\ir functions/subscribe/cursor_horizon.sql
\ir functions/subscribe/has_foreign_xids.sql
\ir functions/subscribe/update_cursor.sql
\ir functions/subscribe/save_cursor.sql
\ir functions/subscribe/require_subscription.sql
\ir functions/subscribe/unread_events.sql
\ir functions/subscribe/cursor_has_passed.sql
\ir functions/subscribe/subscription_covers.sql
\ir functions/subscribe/open_next_window.sql
\ir functions/subscribe/subscribe.sql
\ir functions/subscribe/fetch.sql
\ir functions/subscribe/ack.sql
\ir functions/subscribe/replay.sql
\ir functions/subscribe/seek.sql
\ir functions/subscribe/unsubscribe.sql
\ir functions/retention/task_is_purgeable.sql
\ir functions/retention/purge.sql
\ir functions/retention/purge_tests.sql
\ir functions/subscribe/rebase.sql
\ir plans.sql
\ir status.sql
\ir grants.sql

COMMIT;
