-- Version 1. Compacted samples of one day (UTC), or cells of a roll-up. Of samples, `window` is the start of the two hours that a block lies in, or of the day
-- once the day was merged; `made` is one number for all blocks of one flush or merge: who holds one such number is merged.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE block (id INTEGER PRIMARY KEY, window INTEGER NOT NULL, made INTEGER NOT NULL, t_min INTEGER NOT NULL, t_max INTEGER NOT NULL,
                    series_min INTEGER NOT NULL, series_max INTEGER NOT NULL, samples INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX block_by_range ON block (t_max, t_min, series_min, series_max, window, made);
CREATE INDEX block_by_window ON block (window, made, samples);
