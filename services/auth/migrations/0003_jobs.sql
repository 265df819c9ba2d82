-- What access-policy is owed is kept in the queue of jobs, as everything that is owed.

INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
SELECT CASE kind
           WHEN 'subject' THEN 'push.standing'
           WHEN 'patient' THEN 'push.root_key'
           WHEN 'denial' THEN 'push.denial'
           ELSE 'push.session' END,
       subject, subject, 'waiting', 1, due_at_ms, due_at_ms, 0, 0
FROM pushes WHERE done_at_ms IS NULL ORDER BY due_at_ms, place;

DROP TABLE pushes;
