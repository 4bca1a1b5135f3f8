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
	PERFORM pg_notify('humcli_events', unnest(p_events));
	IF cardinality(p_gaps) > 0 THEN
		PERFORM pg_notify('humcli_gaps', unnest(p_gaps));
	END IF;
END $$;
