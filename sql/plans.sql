-- record_batch() and notify() keep one plan for all values. A plan made for the
-- arrays of each call would be the same, and would cost more than the work of a
-- small batch. The setting exists from PostgreSQL 12 on.
DO $$
BEGIN
	IF current_setting('server_version_num')::int >= 120000 THEN
		ALTER FUNCTION humcli.record_batch(text[], text[], text[], text[], timestamptz[], timestamptz[],
			text[], text[], json[], interval, boolean) SET plan_cache_mode = force_generic_plan;
		ALTER FUNCTION humcli.notify(text[], text[]) SET plan_cache_mode = force_generic_plan;
	END IF;
END $$;
