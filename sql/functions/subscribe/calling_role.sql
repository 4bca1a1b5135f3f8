-- Who calls: the role that was SET, else the user who logged in. (In a
-- SECURITY DEFINER function current_user is the owner.)
CREATE OR REPLACE FUNCTION humcli.calling_role()
RETURNS name
LANGUAGE sql STABLE
AS $$
	SELECT CASE current_setting('role') WHEN 'none' THEN session_user
		ELSE current_setting('role')::name END
$$;
