CREATE TABLE lost (tenant INTEGER NOT NULL, agent TEXT NOT NULL, epoch BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                   items INTEGER NOT NULL, told_ms INTEGER NOT NULL, PRIMARY KEY (tenant, agent, epoch, first)) WITHOUT ROWID;
