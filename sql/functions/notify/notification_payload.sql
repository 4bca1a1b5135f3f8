-- Returns the text of an event's notification. The caller shrinks a text of more
-- than 1,000 bytes to the id. The body is a bare expression, so that the planner
-- can inline the call.
CREATE OR REPLACE FUNCTION humcli.notification_payload(
	p_id bigint,
	p_task_id text,
	p_status text,
	p_previous_status text,
	p_first_of_status boolean,
	p_secret_name text
)
RETURNS text
LANGUAGE sql STABLE
AS $$
	SELECT format('{"id":"%s","task_id":%s,"status":%s,"previous_status":%s,"first":%s,"secret":%s}',
		p_id, to_json(p_task_id), to_json(p_status),
		coalesce(to_json(p_previous_status)::text, 'null'), to_json(p_first_of_status),
		coalesce(to_json(p_secret_name)::text, 'null'))
$$;
