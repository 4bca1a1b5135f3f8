-- Returns the role of the caller: the role chosen by SET ROLE, else the user
-- who logged in. In a SECURITY DEFINER function, current_user is the owner
-- instead.
CREATE OR REPLACE FUNCTION humcli.calling_role()
RETURNS name
LANGUAGE sql STABLE
AS $$
	SELECT CASE current_setting('role') WHEN 'none' THEN session_user
		ELSE current_setting('role')::name END
$$;
