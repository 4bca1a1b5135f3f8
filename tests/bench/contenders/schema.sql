-- The contenders' table. By HumCLI's rule it has one row per task and status.
CREATE TABLE webhook_events (
	id		bigserial PRIMARY KEY,
	task_id		text NOT NULL,
	status		text NOT NULL,
	payload		json NOT NULL,
	received_at	timestamptz NOT NULL DEFAULT now(),
	UNIQUE (task_id, status)
);
