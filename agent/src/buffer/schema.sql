-- Version 2. What waits for its ack, and what was acknowledged not long ago. `body` is sealed. Ids are dense: one is in `batch`, in
-- `dropped`, or was acknowledged (`settled` in `meta`: pairs of first and last, u64 LE) and is gone.
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- From `first_id` up to the next row's, ids travel as numbers of this epoch, the first as `first_seq`.
CREATE TABLE epoch (first_id INTEGER PRIMARY KEY, epoch BLOB NOT NULL, first_seq INTEGER NOT NULL);
CREATE TABLE batch (id INTEGER PRIMARY KEY, class INTEGER NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX batch_by_class ON batch (class, id);
-- Ids given up, until all before them is settled.
CREATE TABLE dropped (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE INDEX dropped_by_last ON dropped (last);
-- Losses, until a batch that tells of them is acknowledged.
CREATE TABLE gap (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, class INTEGER NOT NULL, items INTEGER NOT NULL, at_ms INTEGER NOT NULL, cause TEXT NOT NULL);
CREATE INDEX gap_by_last ON gap (last);
-- Which batch tells of a gap; 0: one that was acknowledged, of a gap in another file.
CREATE TABLE told (gap INTEGER PRIMARY KEY, batch INTEGER NOT NULL);
CREATE INDEX told_by_batch ON told (batch);
-- What sensors asked to be remembered; nothing at all for what is to be forgotten in another file.
CREATE TABLE remembered (sensor TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (sensor, key)) WITHOUT ROWID;
