-- Deletes a subscription together with its cursor.
CREATE OR REPLACE FUNCTION humcli.unsubscribe(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM humcli.require_subscription(unsubscribe.name, 'change', true);
	DELETE FROM humcli.subscriptions s WHERE s.name = unsubscribe.name;
END $$;
