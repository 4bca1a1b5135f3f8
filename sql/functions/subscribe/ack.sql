-- Acknowledges a position that fetch() returned, and every event before it.
--
-- Raises 40001 if the position is acknowledged already or is older than a seek,
-- because another consumer of the subscription was faster. The caller must roll
-- back; otherwise the work that belongs to the event is done twice.
CREATE OR REPLACE FUNCTION humcli.ack(name text, "position" text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
	s humcli.subscriptions;
	n bigint[];
	is_pending boolean;
BEGIN
	IF ack."position" IS NULL OR ack."position" !~ '^[0-9]{1,18}(:[0-9]{1,18}){3}$' THEN
		RAISE EXCEPTION 'humcli: "%" is not a position', coalesce(ack."position", 'NULL')
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use the column "position" of humcli.fetch().';
	END IF;
	n := string_to_array(ack."position", ':')::bigint[];
	s := humcli.require_subscription(ack.name, 'work');

	is_pending := n[1] = s.generation AND CASE WHEN n[3] = 0
		THEN EXISTS (SELECT FROM humcli.replays r WHERE r.subscription = s.name AND r.place = n[2])
		ELSE s.win IS NOT NULL AND (n[3], n[4]) > (s.win_xid, s.win_id)
			AND txid_visible_in_snapshot(n[3], s.win) AND NOT txid_visible_in_snapshot(n[3], s.done)
		END;
	IF NOT is_pending THEN
		RAISE EXCEPTION 'humcli: this position of subscription "%" is acknowledged already', s.name
			USING ERRCODE = 'serialization_failure',
			HINT = 'Another consumer was faster, or a seek came between. Roll back and fetch again.';
	END IF;

	IF n[2] > 0 THEN
		DELETE FROM humcli.replays r WHERE r.subscription = s.name AND r.place <= n[2];
	END IF;
	IF n[3] > 0 THEN
		s.win_xid := n[3];
		s.win_id := n[4];
	END IF;
	PERFORM humcli.save_cursor(s);
END $$;
