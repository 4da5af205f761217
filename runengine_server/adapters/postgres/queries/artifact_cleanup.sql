-- name: artifact_marks_add
-- Marks those of the contents $1 that no artifact names, and unmarks the others; one row for each new mark.
WITH asked AS MATERIALIZED (
    SELECT c.content_hash, EXISTS (SELECT FROM artifacts AS a WHERE a.content_hash = c.content_hash) AS is_named
    FROM unnest($1::bytea[]) AS c (content_hash)
),
unmarked AS (
    DELETE FROM artifact_marks AS m
    USING asked AS c
    WHERE m.content_hash = c.content_hash AND c.is_named
)
INSERT INTO artifact_marks (content_hash)
SELECT c.content_hash
FROM asked AS c
WHERE NOT c.is_named
ORDER BY c.content_hash
ON CONFLICT DO NOTHING
RETURNING true

-- name: artifact_marks_count
-- How many of the contents $1 no artifact names.
SELECT count(*)
FROM unnest($1::bytea[]) AS c (content_hash)
WHERE NOT EXISTS (SELECT FROM artifacts AS a WHERE a.content_hash = c.content_hash)

-- name: artifact_marks_list
-- Up to $3 contents behind $1 that have been marked for $2 seconds.
SELECT m.content_hash
FROM artifact_marks AS m
WHERE m.content_hash > $1::bytea AND m.marked_at <= clock_timestamp() - $2 * interval '1 second'
ORDER BY m.content_hash
LIMIT $3

-- name: artifact_mark_lock
-- Holds a mark, unless somebody else does, and looks for references at this moment.
SELECT NOT EXISTS (SELECT FROM artifacts AS a WHERE a.content_hash = m.content_hash) AS is_unreferenced
FROM artifact_marks AS m
WHERE m.content_hash = $1
FOR UPDATE SKIP LOCKED

-- name: artifact_mark_delete
-- The content's turn is over.
DELETE FROM artifact_marks WHERE content_hash = $1
