-- Returns whether a subscription is for events of this status and secret name.
CREATE OR REPLACE FUNCTION humcli.subscription_covers(s humcli.subscriptions, p_status text, p_secret_name text)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
	SELECT (s.statuses IS NULL OR p_status = ANY (s.statuses))
		AND (s.secrets IS NULL OR p_secret_name = ANY (s.secrets))
$$;
