-- Returns whether a task's whole history is older than a time, and no
-- subscription or pool needs an event of it.
CREATE OR REPLACE FUNCTION humcli.task_is_purgeable(
	p_task_id text,
	p_cutoff timestamptz,
	p_subscriptions humcli.subscriptions[]	-- every subscription
)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
-- see functions/record/record_batch.sql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
BEGIN
	RETURN NOT EXISTS (
		SELECT FROM humcli.events e
		WHERE e.task_id = p_task_id
			AND (e.recorded_at >= p_cutoff OR e.occurred_at >= p_cutoff
				OR EXISTS (SELECT FROM humcli.replays r WHERE r.event_id = e.id)
				OR EXISTS (SELECT FROM humcli.jobs j WHERE j.event_id = e.id)
				OR EXISTS (SELECT FROM humcli.dead d WHERE d.event_id = e.id)
				OR EXISTS (
					SELECT FROM unnest(p_subscriptions) s
					WHERE humcli.subscription_covers(s, e.status, coalesce(e.secret_name, e.key_name))
						AND NOT humcli.cursor_has_passed(s, e.xid, e.id)))
	) AND NOT EXISTS (
		SELECT FROM humcli.repeats r
		WHERE r.task_id = p_task_id AND (r.recorded_at >= p_cutoff OR r.occurred_at >= p_cutoff)
	);
END $$;
