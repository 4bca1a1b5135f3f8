-- Wakes whoever LISTENs on humcli_events: one notification an event, or an
-- empty one, {}, where no event is named: "look now". It is a hint that may
-- be lost, merged or forged. Called once the events are committed, in a
-- transaction of its own: a commit that notifies holds a lock of the whole
-- cluster through its fsync and its wait for a standby.
CREATE OR REPLACE FUNCTION humcli.notify(p_id bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off	-- a plan made while the table was small stays good
SET jit = off	-- else a plan that looks costly is compiled anew for each event
AS $$
BEGIN
	-- The lock is taken by the commit. Another's stuck notifying commit must
	-- not hold up ours, so this setting outlives the function.
	PERFORM set_config('lock_timeout', '250ms', true);

	IF coalesce(cardinality(p_id), 0) = 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
		RETURN;
	END IF;

	PERFORM pg_notify('humcli_events', CASE WHEN octet_length(m.whole) > 1000
		THEN format('{"id":"%s"}', m.id) ELSE m.whole END)
	FROM (
		SELECT e.id, e.whole
		FROM (SELECT DISTINCT unnest(p_id) AS id) n
		CROSS JOIN LATERAL (
			SELECT v.id, humcli.notification_payload(v.id, v.task_id, v.status,
				v.previous_status, v.first_of_status) AS whole
			FROM humcli.events v
			WHERE v.id = n.id
			LIMIT 1		-- keeps it a look-up by the primary key
		) e
		ORDER BY e.id
	) m;
	PERFORM humcli.notify_gaps(p_id);
END $$;
