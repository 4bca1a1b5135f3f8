-- Sends notifications: texts of record_batch() for the channel humcli_events, and
-- others for humcli_gaps. Without any it sends the empty one, {}, which means
-- "look now". A notification is a hint; it may be lost, merged or forged.
--
-- Call this after the commit of the events, in a transaction of its own,
-- because a notifying commit holds a lock of the whole cluster through its
-- fsync and its wait for a standby.
CREATE OR REPLACE FUNCTION humcli.notify(p_events text[], p_gaps text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- The commit takes the lock after this function has returned, so the
	-- setting must outlive the function. Otherwise a stuck notifying commit of
	-- another application would block our connection.
	PERFORM set_config('lock_timeout', '250ms', true);

	IF coalesce(cardinality(p_events), 0) + coalesce(cardinality(p_gaps), 0) = 0 THEN
		PERFORM pg_notify('humcli_events', '{}');
		RETURN;
	END IF;
	PERFORM pg_notify('humcli_events', e.text) FROM unnest(p_events) AS e (text);
	IF cardinality(p_gaps) > 0 THEN
		PERFORM pg_notify('humcli_gaps', g.text) FROM unnest(p_gaps) AS g (text);
	END IF;
END $$;

-- Notifies of events by their ids, for a receiver of an older version that still
-- runs. Without an id it sends the empty notification.
CREATE OR REPLACE FUNCTION humcli.notify(p_id bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off	-- see functions/record/record_batch.sql
SET jit = off
AS $$
BEGIN
	PERFORM humcli.notify(
		ARRAY(
			SELECT CASE WHEN octet_length(e.notification) > 1000 THEN format('{"id":"%s"}', e.id)
				ELSE e.notification END
			FROM (SELECT DISTINCT unnest(p_id) AS id) n
			CROSS JOIN LATERAL (
				SELECT v.id, humcli.notification_payload(v.id, v.task_id, v.status,
					nullif(v.previous_status, ''), v.first_of_status, v.secret_name) AS notification
				FROM humcli.events v
				WHERE v.id = n.id
				LIMIT 1		-- forces a look-up by the primary key
			) e
			ORDER BY e.id),
		ARRAY(SELECT g.notification FROM humcli.opened_gaps(p_id) g));
END $$;
