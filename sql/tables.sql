-- The tables. What is there is not touched, since to touch it would hold up
-- whoever writes at this moment.
--
-- Text that is compared has the collation "C": bytes, the same on every
-- system, and one index then finds duplicates and neighbours.

DO $$ BEGIN IF to_regclass('humcli.schema_version') IS NULL THEN
	CREATE TABLE humcli.schema_version (
		version		int PRIMARY KEY,
		applied_at	timestamptz NOT NULL DEFAULT now()
	);
END IF; END $$;

-- A step from an older version goes here, by what max(version) says.
DO $$
DECLARE
	ours constant int := 1;
	theirs int := (SELECT max(v.version) FROM humcli.schema_version v);
BEGIN
	IF theirs > ours THEN
		RAISE EXCEPTION 'humcli: the schema has version %, this is the installation of version %', theirs, ours
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'A newer humcli-webhook was installed here; use its SQL.';
	END IF;
	INSERT INTO humcli.schema_version (version) VALUES (ours) ON CONFLICT DO NOTHING;
END $$;

-- What happened: each visit of a task to a status (see functions/record.sql).
DO $$ BEGIN IF to_regclass('humcli.events') IS NULL THEN
	CREATE TABLE humcli.events (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		occurred_at	timestamptz NOT NULL CHECK (isfinite(occurred_at)),
		received_at	timestamptz NOT NULL,
		recorded_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		first_of_status	boolean NOT NULL,
		secret_name	text NOT NULL,
		signature	text NOT NULL,
		payload		json NOT NULL,
		xid		bigint NOT NULL DEFAULT txid_current(),
		UNIQUE (task_id, event, occurred_at, status)
	);
	-- Ids are drawn before the commit: who reads on goes by transaction first.
	CREATE INDEX events_feed ON humcli.events (xid, id);
	CREATE INDEX events_recorded_at ON humcli.events USING brin (recorded_at);
	-- Rows are only ever added: by default vacuum would come by too seldom.
	IF current_setting('server_version_num')::int >= 130000 THEN
		ALTER TABLE humcli.events SET (autovacuum_vacuum_insert_scale_factor = 0.05);
	END IF;
END IF; END $$;

-- Further deliveries of a visit that has its event: not news, but not lost.
DO $$ BEGIN IF to_regclass('humcli.repeats') IS NULL THEN
	CREATE TABLE humcli.repeats (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event		text COLLATE "C" NOT NULL,
		task_id		text COLLATE "C" NOT NULL,
		status		text COLLATE "C" NOT NULL,
		previous_status	text COLLATE "C",
		occurred_at	timestamptz NOT NULL CHECK (isfinite(occurred_at)),
		received_at	timestamptz NOT NULL,
		recorded_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
		secret_name	text NOT NULL,
		signature	text NOT NULL,
		payload		json NOT NULL,
		UNIQUE (task_id, event, occurred_at, status)
	);
END IF; END $$;

-- Signed, but no event: what the sender was answered 400 or 422 for.
DO $$ BEGIN IF to_regclass('humcli.quarantine') IS NULL THEN
	CREATE TABLE humcli.quarantine (
		id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		received_at	timestamptz NOT NULL,
		reason		text NOT NULL,
		secret_name	text NOT NULL,
		signature	text NOT NULL UNIQUE,
		body		bytea NOT NULL,
		seen		int NOT NULL DEFAULT 1
	);
END IF; END $$;

-- The event types of HumCLI's documentation. Nothing refers to this table:
-- a status that is not in it is recorded all the same.
DO $$ BEGIN IF to_regclass('humcli.statuses') IS NULL THEN
	CREATE TABLE humcli.statuses (
		status		text COLLATE "C" PRIMARY KEY,
		event		text NOT NULL,
		trigger		text NOT NULL,
		terminal	boolean NOT NULL
	);
END IF; END $$;
INSERT INTO humcli.statuses AS s (status, event, trigger, terminal) VALUES
	('PENDING', 'Estimate rejected', 'you rejected the estimate', false),
	('ESTIMATE_PENDING', 'Operator accepted', 'operator submitted time estimate', false),
	('ACCEPTED', 'Estimate approved', 'you approved the estimate', false),
	('IN_PROGRESS', 'Work started', 'operator started working', false),
	('SUBMITTED', 'Proof submitted', 'operator submitted proof', false),
	('VERIFIED', 'Auto-verified', 'AI Guardian approved', false),
	('COMPLETED', 'Completed', 'task finalized, escrow released', true),
	('MANUAL_REVIEW', 'Manual review needed', 'AI Guardian confidence too low', false),
	('DISPUTED', 'Disputed', 'you rejected the proof', false),
	('CANCELLED', 'Cancelled', 'you cancelled the task', true)
ON CONFLICT (status) DO UPDATE
	SET event = EXCLUDED.event, trigger = EXCLUDED.trigger, terminal = EXCLUDED.terminal;
