-- Drops functions of older versions that have other parameters now. Functions
-- that a running receiver of an older version calls stay.
DO $$
DECLARE
	old regprocedure;
BEGIN
	FOREACH old IN ARRAY ARRAY[
		to_regprocedure('humcli.subscribe(text, text, text[])'),
		to_regprocedure('humcli.unread_events(txid_snapshot, txid_snapshot, bigint, bigint, text[], bigint)'),
		to_regprocedure('humcli.notification_payload(bigint, text, text, text, boolean)'),
		to_regprocedure('humcli.notify_gaps(bigint[])')]
	LOOP
		IF old IS NOT NULL THEN
			EXECUTE format('DROP FUNCTION %s', old);
		END IF;
	END LOOP;
END $$;
