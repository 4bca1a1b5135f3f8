-- Returns a subscription whose window is read to the end, with its next window.
-- Without an event for the subscription there, the cursor is moved past the rows
-- of other statuses and secrets if they are more than 1,000, so that they are not
-- read each time. Returns NULL if there is nothing to change.
CREATE OR REPLACE FUNCTION humcli.open_next_window(s humcli.subscriptions)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	max_skipped constant int := 1000;
	base constant txid_snapshot := coalesce(s.win, s.done);
	present constant txid_snapshot := humcli.complete_snapshot();
	skipped bigint;
BEGIN
	IF EXISTS (SELECT FROM humcli.unread_events(base, present, 0, 0, s.statuses, s.secrets, 1)) THEN
		s.done := base;
		s.win := present;
	ELSE
		skipped := CASE WHEN coalesce(s.statuses, s.secrets) IS NULL THEN 0 ELSE (
			SELECT count(*) FROM humcli.unread_events(base, present, 0, 0, NULL, NULL, max_skipped + 1)) END;
		IF coalesce(s.statuses, s.secrets) IS NOT NULL AND s.win IS NOT NULL THEN
			skipped := skipped + (
				SELECT count(*) FROM humcli.unread_events(s.done, s.win, s.win_xid, s.win_id, NULL, NULL, max_skipped + 1));
		END IF;
		IF skipped <= max_skipped THEN
			RETURN NULL;
		END IF;
		s.done := present;
		s.win := NULL;
	END IF;
	s.win_xid := 0;
	s.win_id := 0;
	RETURN s;
END $$;
