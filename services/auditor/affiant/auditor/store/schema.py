"""The tables. `idx` is everywhere the entry's place in the log, from 0."""

from __future__ import annotations

VERSION = 2
"""Kept in `user_version`; a store of an unknown version is not opened."""

_OUTSIDE = "INTEGER GENERATED ALWAYS AS (substr(subject, 1, 16) = 'affiant.outside.') VIRTUAL"

UPGRADES = {
    1: f"""
ALTER TABLE entries ADD COLUMN outside {_OUTSIDE};
DROP INDEX entries_by_event;
CREATE UNIQUE INDEX entries_by_event ON entries (event_id, outside);
"""
}
"""What makes a store of this version one of the next."""

TABLES = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The record itself: one row for each leaf. `salt`, `body` and `headers` can be erased; the rest stays.
CREATE TABLE entries (
  idx INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  type TEXT NOT NULL,
  source TEXT NOT NULL,
  subject TEXT NOT NULL,
  time TEXT NOT NULL,
  audited_at TEXT NOT NULL,
  payload_hash BLOB NOT NULL,
  salt BLOB,
  body BLOB,
  headers TEXT,
  outside {_OUTSIDE}
) STRICT;
-- An id is known once. Ids of outside systems are apart: nobody can keep one of our events out by taking its id.
CREATE UNIQUE INDEX entries_by_event ON entries (event_id, outside);

CREATE TABLE tiles (
  level INTEGER NOT NULL, position INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY, root BLOB NOT NULL, note TEXT NOT NULL, signed_at TEXT NOT NULL,
  witnessed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX checkpoints_unwitnessed ON checkpoints (size) WHERE witnessed = 0;

-- What could not enter the record, with the reason. A message that is delivered again is one row.
CREATE TABLE quarantine (
  number INTEGER PRIMARY KEY,
  stream TEXT NOT NULL, sequence INTEGER NOT NULL, digest BLOB NOT NULL,
  durable TEXT NOT NULL, subject TEXT NOT NULL, headers TEXT, body BLOB NOT NULL,
  kind TEXT NOT NULL, reason TEXT NOT NULL, event_id TEXT NOT NULL, at TEXT NOT NULL,
  UNIQUE (stream, sequence, digest)
) STRICT;

CREATE TABLE predictions (
  idx INTEGER PRIMARY KEY,
  model TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, alias TEXT NOT NULL,
  status TEXT NOT NULL, received_at TEXT NOT NULL, rows INTEGER NOT NULL, adverse_rows INTEGER,
  request_id TEXT NOT NULL, subject_ref TEXT NOT NULL, duration_us INTEGER NOT NULL,
  replica TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, error TEXT NOT NULL,
  awaits_spec INTEGER NOT NULL
) STRICT;
CREATE INDEX predictions_by_model ON predictions (model, received_at, idx);
CREATE INDEX predictions_by_time ON predictions (received_at, idx);
CREATE INDEX predictions_awaiting ON predictions (model, version) WHERE awaits_spec = 1;

-- One row for each decided row of a prediction. `protected` is a JSON object: protected column → value.
CREATE TABLE decisions (
  idx INTEGER NOT NULL, row INTEGER NOT NULL,
  model TEXT NOT NULL, version INTEGER NOT NULL, received_at TEXT NOT NULL,
  label TEXT, adverse INTEGER NOT NULL, score REAL, protected TEXT NOT NULL,
  PRIMARY KEY (idx, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX decisions_by_model ON decisions (model, received_at);

CREATE TABLE explanations (
  idx INTEGER PRIMARY KEY, prediction_id TEXT NOT NULL, row INTEGER NOT NULL, model TEXT NOT NULL,
  outcome TEXT NOT NULL
) STRICT;
CREATE INDEX explanations_by_prediction ON explanations (prediction_id, row);
CREATE INDEX explanations_by_model ON explanations (model, outcome, prediction_id, row);

CREATE TABLE lifecycle (idx INTEGER PRIMARY KEY, model TEXT NOT NULL) STRICT;
CREATE INDEX lifecycle_by_model ON lifecycle (model, idx);

CREATE TABLE specs (
  model TEXT NOT NULL, version INTEGER NOT NULL, spec TEXT NOT NULL, PRIMARY KEY (model, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE counts (
  model TEXT NOT NULL, version INTEGER NOT NULL,
  answered INTEGER NOT NULL, failed INTEGER NOT NULL, rows INTEGER NOT NULL, adverse_rows INTEGER NOT NULL,
  PRIMARY KEY (model, version)
) STRICT, WITHOUT ROWID;

-- Runs of sequence numbers without a gap, by replica and epoch.
CREATE TABLE runs (
  model TEXT NOT NULL, replica TEXT NOT NULL, epoch INTEGER NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, since TEXT NOT NULL,
  PRIMARY KEY (model, replica, epoch, first)
) STRICT, WITHOUT ROWID;

-- What was published last, so that it is published once: gaps by replica and epoch, breaches by column and day.
CREATE TABLE reports (name TEXT PRIMARY KEY, value TEXT NOT NULL, at TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
  number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, headers TEXT NOT NULL,
  body BLOB NOT NULL
) STRICT;
"""
