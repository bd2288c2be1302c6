-- Version 1. One day (UTC) of compacted samples. `window` is the start of the two hours that a block lies in.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE block (id INTEGER PRIMARY KEY, window INTEGER NOT NULL, t_min INTEGER NOT NULL, t_max INTEGER NOT NULL, samples INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX block_by_window ON block (window);
CREATE TABLE member (series INTEGER NOT NULL, block INTEGER NOT NULL, PRIMARY KEY (series, block)) WITHOUT ROWID;
