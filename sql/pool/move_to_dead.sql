-- Moves jobs of a pool that have no attempts left to humcli.dead, where
-- redrive() finds them.
CREATE OR REPLACE FUNCTION humcli.move_to_dead(p_name text, p_event_id bigint[], p_error text)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
	WITH gone AS (
		DELETE FROM humcli.jobs j
		WHERE j.subscription = p_name AND j.event_id = ANY (p_event_id)
		RETURNING j.*
	)
	INSERT INTO humcli.dead AS d (subscription, event_id, attempts, error)
	SELECT g.subscription, g.event_id, g.attempts,
		coalesce(p_error, g.error, 'the lease ran out')
	FROM gone g
	ON CONFLICT (subscription, event_id) DO UPDATE
		SET attempts = EXCLUDED.attempts, error = EXCLUDED.error, died_at = EXCLUDED.died_at
$$;
