-- As a node of schema 3 left it: one run that was stopped in order, one that was killed with two instances alive.
BEGIN TRANSACTION;
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "facts" VALUES('first_session',1);
CREATE TABLE launches (
    launch TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    adapter TEXT NOT NULL,
    session INTEGER NOT NULL,
    reason TEXT NOT NULL,
    stage TEXT NOT NULL,
    intended_at_ms INTEGER NOT NULL,
    ready_at_ms INTEGER,
    ended_at_ms INTEGER,
    end_reason TEXT,
    price_per_hour_micro INTEGER NOT NULL,
    minimum_billing_ms INTEGER NOT NULL,
    billing_step_ms INTEGER NOT NULL,
    cost_micro INTEGER,
    currency TEXT,
    ended_session INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "launches" VALUES('gateway-7-1-5a15810f','digits','cloud',1,'utilisation 4.937 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','closed',1795715217426,1795715217569,1795715223166,'the node stops',400000,60000,1000,6667,'EUR',1);
INSERT INTO "launches" VALUES('gateway-7-1-de416408','digits','cloud',1,'utilisation 4.937 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','closed',1795715217426,1795715217572,1795715223166,'the node stops',400000,60000,1000,6667,'EUR',1);
INSERT INTO "launches" VALUES('gateway-7-2-b08ce134','digits','cloud',2,'utilisation 1.923 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','ready',1795715223593,1795715223757,NULL,NULL,400000,60000,1000,NULL,'EUR',NULL);
INSERT INTO "launches" VALUES('gateway-7-2-ea1cba92','digits','cloud',2,'utilisation 1.923 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','ready',1795715223592,1795715223754,NULL,NULL,400000,60000,1000,NULL,'EUR',NULL);
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    since_boot_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    behind_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "sessions" VALUES(1,'0065b9db-4aa6-4b86-a48a-9a22650e1ff7',84314760,1795715217000,0);
INSERT INTO "sessions" VALUES(2,'0065b9db-4aa6-4b86-a48a-9a22650e1ff7',84321056,1795715223296,0);
COMMIT;
PRAGMA user_version = 3;
