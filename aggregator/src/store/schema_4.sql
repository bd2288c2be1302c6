CREATE TABLE place (tenant INTEGER NOT NULL, host BLOB NOT NULL, key TEXT NOT NULL, at BLOB NOT NULL, gone INTEGER NOT NULL, body BLOB NOT NULL,
                    PRIMARY KEY (tenant, host, key, at)) WITHOUT ROWID;
CREATE INDEX place_by_key ON place (tenant, key, gone, host);
