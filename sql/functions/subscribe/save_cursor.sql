-- Moves a subscription's cursor to where s is.
--
-- The row is written under a transaction id that was drawn after all that the
-- cursor reaches. For one that was drawn, but not written to the log before a
-- crash or a failover, is drawn again, and a cursor that is beyond it would
-- skip what is recorded under it then; and has_foreign_xids() goes by this too. An
-- older transaction gets a new id from a subtransaction.
CREATE OR REPLACE FUNCTION humcli.save_cursor(s humcli.subscriptions)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF txid_current() >= humcli.cursor_horizon(s) THEN
		PERFORM humcli.update_cursor(s);
		RETURN;
	END IF;
	BEGIN
		PERFORM humcli.update_cursor(s);
	EXCEPTION WHEN assert_failure THEN	-- never: this makes the block a subtransaction
		RAISE;
	END;
END $$;
