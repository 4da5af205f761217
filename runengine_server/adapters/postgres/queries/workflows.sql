-- name: workflow_add
-- A version, its content and the audit row, or nothing when the owner has that version already.
-- One statement, so one transaction; only two different contents racing for one version can leave a content unused.
WITH
-- Content is shared: equal digests are equal contents, whoever registered them.
content AS (
    INSERT INTO workflow_definitions (digest, definition)
    SELECT $5, $6
    WHERE NOT EXISTS (
        SELECT FROM workflows
        WHERE tenant = $1 AND name = $2 AND version = $3
    )
    ON CONFLICT (digest) DO NOTHING
),
added AS (
    INSERT INTO workflows (tenant, name, version, version_order, digest, principal)
    SELECT $1, $2, $3, $4, $5, $7
    WHERE NOT EXISTS (
        SELECT FROM workflows
        WHERE tenant = $1 AND name = $2 AND version = $3
    )
    ON CONFLICT (tenant, name, version) DO NOTHING
    RETURNING created_at
),
audited AS (
    INSERT INTO audit_log (tenant, principal, action, target)
    SELECT $1, $7, 'RegisterWorkflow', $2 || '@' || $3
    FROM added
)
SELECT created_at
FROM added;

-- name: workflow_owned
-- What one owner has under a name and version.
SELECT w.digest, w.created_at, d.definition
FROM workflows AS w
JOIN workflow_definitions AS d ON d.digest = w.digest
WHERE w.tenant = $1 AND w.name = $2 AND w.version = $3;

-- name: workflow_by_digest
-- Content alone.
SELECT definition
FROM workflow_definitions
WHERE digest = $1;

-- name: workflow_find
-- The version asked for, or the highest; the tenant's own before the directory's (tenant '') of equal version.
SELECT tenant, name, version, digest, created_at
FROM workflows
WHERE tenant IN ($1, '') AND name = $2 AND ($3 = '' OR version = $3)
ORDER BY version_order DESC, version COLLATE "C" DESC, tenant DESC
LIMIT 1;

-- name: workflow_versions
-- What a tenant can use of a name, highest first; for an empty name the highest of each name.
WITH
usable AS (
    SELECT DISTINCT ON (name, CASE WHEN $2 = '' THEN '' ELSE version END)
        tenant, name, version, version_order, digest
    FROM workflows
    WHERE tenant IN ($1, '') AND ($2 = '' OR name = $2)
    ORDER BY
        name, CASE WHEN $2 = '' THEN '' ELSE version END,
        version_order DESC, version COLLATE "C" DESC, tenant DESC
)
SELECT tenant, name, version, digest
FROM usable
ORDER BY name COLLATE "C", version_order DESC, version COLLATE "C" DESC
LIMIT $3;

-- name: workflows_page
-- Workflows by name, highest version first, behind a (name, version order, version); every version or each name's
-- highest ($5). `candidates` is one more than $6 when the listing goes on behind the page.
WITH
-- The tenant's own before the directory's of equal version.
usable AS (
    SELECT DISTINCT ON (name, CASE WHEN $5 THEN version ELSE '' END)
        tenant, name, version, version_order, digest, created_at
    FROM workflows
    WHERE tenant IN ($1, '')
    ORDER BY
        name, CASE WHEN $5 THEN version ELSE '' END,
        version_order DESC, version COLLATE "C" DESC, tenant DESC
),
page AS (
    SELECT u.tenant, u.name, u.version, u.version_order, u.digest, u.created_at, octet_length(d.definition) AS size
    FROM usable AS u
    JOIN workflow_definitions AS d ON d.digest = u.digest
    WHERE
        $2::text IS NULL
        OR u.name COLLATE "C" > $2
        OR ($5 AND u.name = $2 AND (u.version_order, u.version COLLATE "C") < ($3, $4))
    ORDER BY u.name COLLATE "C", u.version_order DESC, u.version COLLATE "C" DESC
    LIMIT $6 + 1
),
-- Definitions are up to 3 MiB each: the page ends before the sum of their sizes exceeds $7, but has at least one.
measured AS (
    SELECT
        tenant, digest, created_at,
        row_number() OVER in_order AS position,
        sum(size) OVER in_order AS size_so_far,
        count(*) OVER () AS candidates
    FROM page
    WINDOW in_order AS (ORDER BY name COLLATE "C", version_order DESC, version COLLATE "C" DESC)
)
SELECT m.tenant, m.digest, m.created_at, m.candidates, d.definition
FROM measured AS m
JOIN workflow_definitions AS d ON d.digest = m.digest
WHERE m.position <= $6 AND (m.position = 1 OR m.size_so_far <= $7)
ORDER BY m.position;
