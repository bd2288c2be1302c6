-- Version 1. What waits for its ack. `body` is sealed; numbers are dense: a number is in `batch`, in `dropped`, or was acknowledged.
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (seq INTEGER PRIMARY KEY, class INTEGER NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX batch_by_class ON batch (class, seq);
-- Numbers given up and not yet passed by an ack.
CREATE TABLE dropped (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
-- Losses that no batch has told of yet.
CREATE TABLE gap (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, class INTEGER NOT NULL, items INTEGER NOT NULL, at_ms INTEGER NOT NULL, cause TEXT NOT NULL);
-- What sensors asked to be remembered.
CREATE TABLE remembered (sensor TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (sensor, key)) WITHOUT ROWID;
