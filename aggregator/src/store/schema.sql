-- Version 4. Small state and level 0: the batches as they arrived. Times, counts and ids are plain; every `body` is sealed.
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE data_key (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL, made_ms INTEGER NOT NULL);
CREATE TABLE tenant (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE series (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE level0 (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL, body BLOB NOT NULL);

-- What of each agent's stream is settled, and the hashes of what came last, to tell a repeat from a fork.
CREATE TABLE stream (tenant INTEGER NOT NULL, agent TEXT NOT NULL, epoch BLOB NOT NULL, cursor INTEGER NOT NULL,
                     batches INTEGER NOT NULL, beyond BLOB NOT NULL DEFAULT x'', seen_ms INTEGER NOT NULL DEFAULT 0,
                     PRIMARY KEY (tenant, agent, epoch)) WITHOUT ROWID;
CREATE TABLE settled (tenant INTEGER NOT NULL, agent TEXT NOT NULL, epoch BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
                      items INTEGER NOT NULL DEFAULT 0,
                      PRIMARY KEY (tenant, agent, epoch, seq)) WITHOUT ROWID;
-- The numbers that each stream has declared lost: what is told again does not count again. Rows do not overlap.
CREATE TABLE lost (tenant INTEGER NOT NULL, agent TEXT NOT NULL, epoch BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                   items INTEGER NOT NULL, told_ms INTEGER NOT NULL, PRIMARY KEY (tenant, agent, epoch, first)) WITHOUT ROWID;
CREATE TABLE gap (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);

CREATE TABLE agent (tenant INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE enroll_token (id TEXT PRIMARY KEY, tenant INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE key (tenant INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
-- Where keys lie or lay, a row a place; those of a host stand together, as they are told. `host` and `at` are hashes of its name and of
-- path and slot, which stand in the body.
CREATE TABLE place (tenant INTEGER NOT NULL, host BLOB NOT NULL, key TEXT NOT NULL, at BLOB NOT NULL, gone INTEGER NOT NULL, body BLOB NOT NULL,
                    PRIMARY KEY (tenant, host, key, at)) WITHOUT ROWID;
CREATE INDEX place_by_key ON place (tenant, key, gone, host);
CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX event_by_time ON event (tenant, at_ms);

CREATE TABLE rule (tenant INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE alert (tenant INTEGER NOT NULL, id TEXT NOT NULL, open INTEGER NOT NULL, changed_ms INTEGER NOT NULL, body BLOB NOT NULL,
                    PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE TABLE alert_history (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, alert TEXT NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX alert_history_by_alert ON alert_history (tenant, alert);
-- A transition's notifications, written in the transition's own transaction. state: waiting, sent, failed.
CREATE TABLE outbox (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, unique_key TEXT NOT NULL UNIQUE, alert TEXT NOT NULL, channel TEXT NOT NULL,
                     state TEXT NOT NULL, due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, changed_ms INTEGER NOT NULL, last_error TEXT, body BLOB NOT NULL);
CREATE INDEX outbox_by_due ON outbox (state, due_ms);
