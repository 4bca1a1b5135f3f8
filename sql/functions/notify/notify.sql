-- Notifies the channel humcli_events: one notification an event, or the empty
-- one, {}, if no event is named, which means "look now". A notification is a
-- hint; it may be lost, merged or forged.
--
-- Call this after the commit of the events, in a transaction of its own,
-- because a notifying commit holds a lock of the whole cluster through its
-- fsync and its wait for a standby.
CREATE OR REPLACE FUNCTION humcli.notify(p_id bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off	-- see functions/record/record.sql
SET jit = off
AS $$
BEGIN
	-- The commit takes the lock after this function has returned, so the
	-- setting must outlive the function. Otherwise a stuck notifying commit of
	-- another application would block our connection.
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
				nullif(v.previous_status, ''), v.first_of_status, v.secret_name) AS whole
			FROM humcli.events v
			WHERE v.id = n.id
			LIMIT 1		-- forces a look-up by the primary key
		) e
		ORDER BY e.id
	) m;
	PERFORM humcli.notify_gaps(p_id);
END $$;
