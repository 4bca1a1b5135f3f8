-- What the contenders record into: HumCLI's rule, one row a task and status.
CREATE TABLE webhook_events (
	id		bigserial PRIMARY KEY,
	task_id		text NOT NULL,
	status		text NOT NULL,
	payload		json NOT NULL,
	received_at	timestamptz NOT NULL DEFAULT now(),
	UNIQUE (task_id, status)
);
