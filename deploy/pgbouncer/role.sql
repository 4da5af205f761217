-- For engines behind PgBouncer in transaction mode: what they would otherwise ask of each connection at its start. Timeouts
-- bound what a lost engine can hold; the plans keep the scheduler's statements on their indexes. Run it as an administrator.
ALTER ROLE runengine_app SET jit = 'off';
ALTER ROLE runengine_app SET statement_timeout = '15s';
ALTER ROLE runengine_app SET lock_timeout = '10s';
ALTER ROLE runengine_app SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE runengine_app SET tcp_keepalives_idle = '5';
ALTER ROLE runengine_app SET tcp_keepalives_interval = '2';
ALTER ROLE runengine_app SET tcp_keepalives_count = '3';
ALTER ROLE runengine_app SET plan_cache_mode = 'force_generic_plan';
ALTER ROLE runengine_app SET enable_seqscan = 'off';
ALTER ROLE runengine_app SET enable_hashjoin = 'off';
ALTER ROLE runengine_app SET enable_mergejoin = 'off';
ALTER ROLE runengine_app SET enable_bitmapscan = 'off';
