-- name: watch_keys_ensure
-- The two newest keys, newest first; $1 is one of them where the newest was older than $2 seconds.
SELECT key, secret FROM watch_keys_ensure($1, $2)
