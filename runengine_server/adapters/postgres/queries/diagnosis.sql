-- name: server_facts_read
-- What decides whether an engine can rely on this server, in its own words.
SELECT
    current_setting('server_version_num')::integer AS version_number,
    current_setting('server_version') AS version,
    clock_timestamp() AS clock,
    pg_is_in_recovery() AS is_replica,
    current_setting('fsync') = 'on' AS has_fsync,
    current_setting('full_page_writes') = 'on' AS has_full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('max_connections')::integer AS connections_max,
    (SELECT count(*)::integer FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections

-- name: privileges_lacking_list
-- What an engine needs of the schema's tables and this role has not; partitions are made by a function of their owner.
SELECT c.relname::text AS table_name, needed.privilege
FROM pg_class AS c
CROSS JOIN LATERAL (
    VALUES
        ('SELECT', has_table_privilege(c.oid, 'SELECT')),
        ('INSERT', has_table_privilege(c.oid, 'INSERT')),
        ('UPDATE', has_table_privilege(c.oid, 'UPDATE')),
        ('DELETE', has_table_privilege(c.oid, 'DELETE'))
) AS needed (privilege, is_there)
WHERE c.relkind IN ('r', 'p')
    AND NOT c.relispartition
    AND c.relname <> 'schema_migrations'
    AND c.relnamespace = (
        SELECT m.relnamespace FROM pg_class AS m WHERE m.oid = to_regclass('schema_migrations')
    )
    AND NOT needed.is_there
ORDER BY c.relname, needed.privilege
