-- A recording of one run: schema 1. `event` holds everything as it came; the other tables are for questions.
-- Times are microseconds since 1970-01-01 UTC. Sizes are bytes. Unknown is NULL, never 0.

-- What was recorded: schema, oomph_version, id, started_at, command, config, host, ended_at, state, …
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;

-- Every event in its order. `body` is JSON with the event's kind; `data` the bytes of an output event,
-- secrets masked by '*' of the same length, so that offsets stay true. An event has an even `seq`; the odd one
-- after it holds the end of its bytes, where that had to wait for the rest of a line.
CREATE TABLE IF NOT EXISTS event (
  seq    INTEGER PRIMARY KEY,
  at     INTEGER NOT NULL,
  kind   TEXT NOT NULL,
  body   TEXT NOT NULL,
  data   BLOB
);

-- One value of one key at one point.
CREATE TABLE IF NOT EXISTS point (
  at      INTEGER NOT NULL,
  kind    TEXT NOT NULL,      -- train, eval, final
  step    INTEGER,
  epoch   REAL,
  segment INTEGER NOT NULL,
  rank    INTEGER,
  key     TEXT NOT NULL,      -- canonical where there is such a name, else as printed
  value   REAL                -- NULL is NaN
);
CREATE INDEX IF NOT EXISTS point_by_key ON point (key, step);

-- One sample of one GPU.
CREATE TABLE IF NOT EXISTS gpu (
  at            INTEGER NOT NULL,
  uuid          TEXT NOT NULL,
  name          TEXT,
  memory_total  INTEGER,
  memory_used   INTEGER,
  utilization   INTEGER,      -- percent
  temperature_c INTEGER,
  power_w       REAL
);

-- One failure; `report` is its object of the schema oomph.diagnosis/1.
CREATE TABLE IF NOT EXISTS failure (
  at        INTEGER NOT NULL,
  is_oom    INTEGER NOT NULL,
  memory    TEXT NOT NULL,
  kind      TEXT NOT NULL,
  phase     TEXT NOT NULL,
  cause     TEXT,
  requested INTEGER,
  summary   TEXT NOT NULL,
  report    TEXT NOT NULL
);

-- What is missing from this recording, and why.
CREATE TABLE IF NOT EXISTS gap (
  at     INTEGER NOT NULL,
  events INTEGER NOT NULL,
  bytes  INTEGER NOT NULL,
  reason TEXT NOT NULL
);
