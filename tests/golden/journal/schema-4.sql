-- As a node of schema 4 left it: one run that was stopped in order, one that was killed with two instances alive.
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
    ended_session INTEGER,
    ending_at_ms INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "launches" VALUES('gateway-7-1-176d42ce','digits','cloud',1,'utilisation 4.963 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','closed',1795715243554,1795715243612,1795715249230,'the node stops',400000,60000,1000,6667,'EUR',1,1795715249125);
INSERT INTO "launches" VALUES('gateway-7-1-29a7bf05','digits','cloud',1,'utilisation 4.963 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','closed',1795715243554,1795715243707,1795715249230,'the node stops',400000,60000,1000,6667,'EUR',1,1795715249125);
INSERT INTO "launches" VALUES('gateway-7-2-22ff9a37','digits','cloud',2,'utilisation 2.084 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','ready',1795715249705,1795715249885,NULL,NULL,400000,60000,1000,NULL,'EUR',NULL,NULL);
INSERT INTO "launches" VALUES('gateway-7-2-2744bcf6','digits','cloud',2,'utilisation 2.084 is at or above 0.85 (threshold 0.80 + band/2): 2 more, 3 wanted','ready',1795715249705,1795715249882,NULL,NULL,400000,60000,1000,NULL,'EUR',NULL,NULL);
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    since_boot_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    behind_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "sessions" VALUES(1,'0065b9db-4aa6-4b86-a48a-9a22650e1ff7',84340884,1795715243124,0);
INSERT INTO "sessions" VALUES(2,'0065b9db-4aa6-4b86-a48a-9a22650e1ff7',84347164,1795715249404,0);
COMMIT;
PRAGMA user_version = 4;
