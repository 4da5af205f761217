-- name: skill_permits_update
-- What an engine wants and keeps of limited skills, for what it gets; see the function for what is fair.
SELECT s_skill, s_held, s_target, is_freeing
FROM skill_permits_exchange($1, $2, $3, $4, $5, $6);
