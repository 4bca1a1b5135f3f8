-- Returns a subscription that the caller may use. The role that created it, its
-- members and humcli_admin may. Raises an error if the subscription does not
-- exist, belongs to another role, or needs rebase(). p_lock locks the
-- subscription until the end of the transaction:
--
--	work	one consumer at a time
--	change	no other transaction, purge() included
CREATE OR REPLACE FUNCTION humcli.require_subscription(
	p_name text,
	p_lock text DEFAULT NULL,
	p_allow_foreign_xids boolean DEFAULT false	-- accept one that needs rebase()
)
RETURNS humcli.subscriptions
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s humcli.subscriptions;
BEGIN
	SELECT u.* INTO s FROM humcli.subscriptions u WHERE u.name = p_name;
	IF FOUND AND NOT coalesce(pg_has_role(humcli.calling_role(), to_regrole(quote_ident(s.owner)), 'USAGE'), false)
		AND NOT coalesce(pg_has_role(humcli.calling_role(), to_regrole('humcli_admin'), 'USAGE'), false)
	THEN
		RAISE EXCEPTION 'humcli: subscription "%" belongs to role "%"', p_name, s.owner
			USING ERRCODE = 'insufficient_privilege';
	END IF;

	-- Lock the row first and read it afterwards, because the transaction
	-- before ours may have changed it.
	IF p_lock = 'work' THEN
		PERFORM FROM humcli.subscriptions u WHERE u.name = p_name FOR NO KEY UPDATE;
	ELSIF p_lock = 'change' THEN
		PERFORM FROM humcli.subscriptions u WHERE u.name = p_name FOR UPDATE;
	END IF;
	SELECT u.* INTO s FROM humcli.subscriptions u WHERE u.name = p_name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'humcli: subscription "%" does not exist', p_name
			USING ERRCODE = 'no_data_found',
			HINT = 'Create it with humcli.subscribe().';
	END IF;
	IF NOT p_allow_foreign_xids AND humcli.has_foreign_xids(p_name) THEN
		RAISE EXCEPTION 'humcli: this database was restored from a dump of another cluster'
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The transaction ids in it are ahead of this cluster''s: new events would be skipped.',
			HINT = 'A member of humcli_admin must run: SELECT humcli.rebase();';
	END IF;
	RETURN s;
END $$;
