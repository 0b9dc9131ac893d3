-- A job: what the queue scans, and its record. Bodies and results are apart,
-- so that these rows stay small. Times are microseconds since the Unix epoch.
CREATE TABLE job (
    seq              INTEGER PRIMARY KEY,     -- the order of submits; also in the id
    id               BLOB NOT NULL,           -- UUIDv7, 16 bytes
    status           INTEGER NOT NULL,        -- 0 SUBMITTED, 1 IN_PROGRESS, 2 SUCCESS, 3 ERROR, 4 CANCELLED
    attempt          INTEGER NOT NULL DEFAULT 0,
    uncounted        INTEGER NOT NULL DEFAULT 0,
    max_attempts     INTEGER NOT NULL,
    due              INTEGER,                 -- SUBMITTED: claimable from; NULL behind its group. IN_PROGRESS: end of the lease
    lease            INTEGER,                 -- IN_PROGRESS: how long a lease its holder has asked for, in microseconds
    check_at         INTEGER,                 -- IN_PROGRESS: when a claim looks next at whether its holder is silent
    suspect          INTEGER,                 -- An attempt was lost with its worker: for how long the next is watched, in microseconds.
                                              -- 0, IN_PROGRESS: a watched job of the same worker was lost; if this one is, that is not its fault
    submitted_at     INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER,
    expires_at       INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    dead             INTEGER NOT NULL DEFAULT 0,
    result_ttl       INTEGER NOT NULL,        -- microseconds
    start_by         INTEGER,                 -- SUBMITTED: it ends then, unless an attempt counts before
    drop_body        INTEGER NOT NULL DEFAULT 0, -- its body goes with its success
    webhook          INTEGER NOT NULL DEFAULT 0, -- of what its webhook is to be told: 1 ended, 2 attempt_failed, 4 progress
    told_at          INTEGER,                 -- when its progress was to be told last
    not_before       INTEGER,                 -- its place in the queue, where that is not submitted_at: after a delay, retry, put-off, or redrive.
                                              -- Without one it is claimable at once, wherever the clock may be
    queue            TEXT,                    -- NULL: `default`
    group_id         TEXT,
    request_id       TEXT,                    -- NULL: the job's id
    idempotency_key  TEXT,
    worker           TEXT,
    slot             TEXT,                    -- of the worker, where its slots differ
    claim            TEXT,                    -- IN_PROGRESS: the id of the request that has brought it, if that may be made again
    spec             TEXT,                    -- JSON object: the options that have no column; NULL: all default
    progress         REAL,
    progress_message TEXT,
    error_kind       TEXT,
    error            TEXT,
    error_type       TEXT                     -- what the handler has raised: ValueError
) STRICT;

-- Each queue in the order of claims: what has to wait for no moment, and what does; apart from it, what is to be watched.
CREATE INDEX job_ready ON job (queue, suspect IS NOT NULL, not_before IS NOT NULL, due) WHERE status = 0 AND due IS NOT NULL;
-- What each worker holds and is watched for.
CREATE INDEX job_suspect ON job (worker) WHERE status = 1 AND suspect IS NOT NULL;
-- What consumers hold, by the moment at which it is looked at next.
CREATE INDEX job_leased ON job (check_at) WHERE status = 1;
-- What has to start, by the moment at which it ends otherwise.
CREATE INDEX job_start_by ON job (start_by) WHERE start_by IS NOT NULL AND status = 0;
-- The unfinished jobs of each group of a queue, in order.
CREATE INDEX job_group ON job (group_id, queue, seq) WHERE group_id IS NOT NULL AND status < 2;
-- What was submitted under a request id of the caller's.
CREATE INDEX job_request ON job (request_id) WHERE request_id IS NOT NULL;
-- The one job of each group that is claimable or held.
CREATE INDEX job_group_active ON job (group_id, queue) WHERE group_id IS NOT NULL AND due IS NOT NULL;
-- What is over, by when it expires, and all that counts it.
CREATE INDEX job_expiry ON job (expires_at, status, dead, queue) WHERE expires_at IS NOT NULL;
-- What is in a queue that has a name. That of the others costs nothing.
CREATE INDEX job_queue ON job (queue, seq) WHERE queue IS NOT NULL;
-- What went wrong is rare, and looked for.
CREATE INDEX job_failed ON job (status, seq) WHERE status > 2;

CREATE TABLE body (seq INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
-- The last attempts of a job that went back to the queue; of the latest, its row tells.
CREATE TABLE attempt (
    seq        INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    worker     TEXT,
    slot       TEXT,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    error_kind TEXT,
    error      TEXT,
    error_type TEXT,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;
-- What an attempt has left for the next one.
CREATE TABLE checkpoint (seq INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE result (seq INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;

-- A key counts until its time is over and its job is, too.
CREATE TABLE idempotency (
    key      TEXT PRIMARY KEY,
    id       BLOB NOT NULL,
    seq      INTEGER NOT NULL,  -- of the job
    until    INTEGER NOT NULL,
    sweep_at INTEGER NOT NULL   -- when to look next whether it can be deleted
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_sweep ON idempotency (sweep_at);

-- How many jobs each queue has in each status, kept with each transaction, since
-- counting a million rows takes too long to do every second.
CREATE TABLE counts (
    queue       TEXT PRIMARY KEY,
    submitted   INTEGER NOT NULL DEFAULT 0,
    in_progress INTEGER NOT NULL DEFAULT 0,
    success     INTEGER NOT NULL DEFAULT 0,
    error       INTEGER NOT NULL DEFAULT 0,
    cancelled   INTEGER NOT NULL DEFAULT 0,
    dead        INTEGER NOT NULL DEFAULT 0,  -- of those in error
    blocked     INTEGER NOT NULL DEFAULT 0   -- of those submitted
) STRICT, WITHOUT ROWID;
INSERT INTO counts (queue) VALUES ('default');

-- What is to be told to the webhooks of jobs, until it has been told.
CREATE TABLE delivery (
    seq        INTEGER PRIMARY KEY,  -- in the order in which they were made
    id         TEXT NOT NULL UNIQUE,
    job        BLOB NOT NULL,        -- its id
    queue      TEXT,                 -- its queue; NULL: `default`
    event      INTEGER NOT NULL,     -- as in job.webhook
    url        TEXT NOT NULL,
    host       TEXT NOT NULL,        -- of the URL, with its port
    created_at INTEGER NOT NULL,
    since      INTEGER,              -- from when on its time counts: its first try; NULL: it comes
    tries      INTEGER NOT NULL DEFAULT 0,
    due        INTEGER,              -- when it is tried next; NULL: it is dead
    trying     INTEGER NOT NULL DEFAULT 0,  -- 1: somebody tries it, and has until it is due
    dead_at    INTEGER,
    error      TEXT,                 -- of its last try
    body       TEXT NOT NULL         -- what is sent, JSON; last, so that who looks at the rest does not read it
) STRICT;
-- What is due at each host.
CREATE INDEX delivery_due ON delivery (host, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX delivery_job ON delivery (job);

-- Queues of which no job is claimed.
CREATE TABLE paused (
    queue TEXT PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Workers that are not ready for jobs.
CREATE TABLE unready (
    worker  TEXT PRIMARY KEY,
    queues  TEXT NOT NULL,     -- that it serves: a JSON array of their names
    reason  TEXT NOT NULL,
    since   INTEGER NOT NULL,
    told_at INTEGER NOT NULL   -- when it said so last; it is forgotten a minute later
) STRICT, WITHOUT ROWID;

-- For people with a shell: sqlite3 haulage.db 'SELECT * FROM jobs LIMIT 10'
CREATE VIEW jobs AS
SELECT
    substr(lower(hex(id)), 1, 8) || '-' || substr(lower(hex(id)), 9, 4) || '-' || substr(lower(hex(id)), 13, 4)
        || '-' || substr(lower(hex(id)), 17, 4) || '-' || substr(lower(hex(id)), 21) AS id,
    CASE status WHEN 0 THEN 'SUBMITTED' WHEN 1 THEN 'IN_PROGRESS' WHEN 2 THEN 'SUCCESS' WHEN 3 THEN 'ERROR'
        ELSE 'CANCELLED' END AS status,
    attempt, max_attempts, dead, coalesce(queue, 'default') AS queue, group_id, worker, slot,
    strftime('%Y-%m-%dT%H:%M:%fZ', submitted_at / 1e6, 'unixepoch') AS submitted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1e6, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1e6, 'unixepoch') AS finished_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', due / 1e6, 'unixepoch') AS due_at,
    error_kind, error_type, error, body.json AS body, result.json AS result
FROM job LEFT JOIN body USING (seq) LEFT JOIN result USING (seq);
