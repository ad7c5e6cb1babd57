-- A recording of schema 1, as it was when that schema was in use.
PRAGMA auto_vacuum = INCREMENTAL;
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
INSERT INTO event VALUES (0, 1764000000000000, 'opened', '{"kind":"opened","source":0,"name":"train.log","path":null,"size":null}', NULL);
INSERT INTO event VALUES (2, 1764000001000000, 'output', '{"kind":"output","source":0,"offset":0}', CAST('{''loss'': 2.5, ''epoch'': 0.1}' || char(10) AS BLOB));
INSERT INTO event VALUES (4, 1764000002000000, 'output', '{"kind":"output","source":0,"offset":28}', CAST('{''loss'': 2.25, ''epoch'': 0.2}' || char(10) AS BLOB));
INSERT INTO event VALUES (6, 1764000003000000, 'exited', '{"kind":"exited","code":1,"signal":null}', NULL);
INSERT INTO point VALUES (1764000001000000, 'train', 1, 0.1, 0, NULL, 'loss', 2.5);
INSERT INTO point VALUES (1764000002000000, 'train', 2, 0.2, 0, NULL, 'loss', 2.25);
INSERT INTO gpu (at, uuid, name, memory_total, memory_used) VALUES (1764000001500000, 'GPU-1', 'NVIDIA H100', 85000000000, 70000000000);
INSERT INTO failure VALUES (1764000002500000, 1, 'gpu', 'torch.cuda.bare', 'backward', 'activations', NULL, 'memory ran out', '{}');
INSERT INTO meta VALUES ('id', 'x');
INSERT INTO meta VALUES ('started_at', '2025-11-24T16:00:00Z');
INSERT INTO meta VALUES ('ended_at', '2025-11-24T16:00:03Z');
INSERT INTO meta VALUES ('command', 'python\ntrain.py\n--per_device_train_batch_size\n8');
INSERT INTO meta VALUES ('folder', '/home/me');
INSERT INTO meta VALUES ('exit_code', '1');
INSERT INTO meta VALUES ('knobs', '{"per_device_train_batch_size":8}');
PRAGMA user_version = 1;
