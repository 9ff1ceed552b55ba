use std::os::unix::fs::PermissionsExt;

use super::*;

fn row(launch: &str, at: i64) -> LaunchRow {
    LaunchRow {
        launch: launch.into(),
        service: "digits".into(),
        adapter: "demo-cloud".into(),
        session: 1,
        reason: "utilisation 0.95".into(),
        stage: Stage::Intended,
        intended_at_ms: at,
        ready_at_ms: None,
        ending_at_ms: None,
        ended_at_ms: None,
        end_reason: None,
        price_per_hour_micro: 400_000,
        minimum_billing_ms: 60_000,
        billing_step_ms: 1_000,
        cost_micro: None,
        currency: Some("EUR".into()),
    }
}

/// The tables as version 0.1.0 made them.
const SCHEMA_1: &str = "
CREATE TABLE launches (launch TEXT PRIMARY KEY, service TEXT NOT NULL, adapter TEXT NOT NULL, session INTEGER NOT NULL,
    reason TEXT NOT NULL, stage TEXT NOT NULL, intended_at_ms INTEGER NOT NULL, ready_at_ms INTEGER,
    ended_at_ms INTEGER, end_reason TEXT, price_per_hour_micro INTEGER NOT NULL, minimum_billing_ms INTEGER NOT NULL,
    billing_step_ms INTEGER NOT NULL, cost_micro INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX launches_by_end ON launches (ended_at_ms);
PRAGMA user_version = 1;
";

fn schema_1(directory: &Path, sessions: &[i64]) {
    let old = rusqlite::Connection::open(directory.join("journal.sqlite")).unwrap();
    old.execute_batch(SCHEMA_1).unwrap();
    for session in sessions {
        let sql = "INSERT INTO launches VALUES (?1, 'digits', 'demo-cloud', ?2, 'load', 'ready', 1, 2, NULL, NULL, 4, 6, 1, NULL)";
        old.execute(sql, rusqlite::params![format!("gw-{session}"), session]).unwrap();
    }
}

/// From schema 1 to 2, as 0.1.0 did it.
const SCHEMA_2: &str = "
ALTER TABLE launches ADD COLUMN currency TEXT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO facts SELECT 'first_session', MIN(session) FROM launches;
PRAGMA user_version = 2;
";

#[tokio::test]
async fn a_journal_of_schema_2_keeps_its_rows_and_their_times() {
    let dir = tempfile::tempdir().unwrap();
    schema_1(dir.path(), &[5, 3]);
    rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap().execute_batch(SCHEMA_2).unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    assert_eq!(journal.first_session(), 3);
    let rows = journal.rows_since(0).await.unwrap();
    assert!(rows.iter().all(|row| (row.intended_at_ms, row.ready_at_ms) == (1, Some(2))), "{rows:?}");
    assert!(dir.path().join("journal.schema-2.sqlite").exists());
}

#[tokio::test]
async fn a_journal_of_the_version_before_is_copied_and_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    schema_1(dir.path(), &[5, 3]);
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    assert_eq!(journal.first_session(), 3, "its rows are whole since its first one");
    let rows = journal.rows_since(0).await.unwrap();
    assert_eq!((rows.len(), rows[0].stage, rows[0].currency.clone()), (2, Stage::Ready, None));
    assert_eq!(journal.launches().await.unwrap(), [("gw-3".to_owned(), 3), ("gw-5".to_owned(), 5)]);
    journal.intend(row("new", 7)).await.unwrap();
    drop(journal);
    let backup = rusqlite::Connection::open(dir.path().join("journal.schema-1.sqlite")).unwrap();
    let kept: i64 = backup.query_row("SELECT COUNT(*) FROM launches", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 2);
    assert_eq!(Journal::open(&state).unwrap().first_session(), 3, "the second start finds it done");
}

/// As nodes of those versions left them: dumps of real journals, each with two launches that had ended and two that had not.
#[tokio::test]
async fn what_each_version_left_is_read_and_gone_on_with() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal");
    let mut read = Vec::new();
    for entry in std::fs::read_dir(golden).unwrap() {
        let file = entry.unwrap().path();
        let dir = tempfile::tempdir().unwrap();
        let old = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
        old.execute_batch(&std::fs::read_to_string(&file).unwrap()).unwrap();
        drop(old);
        let state = StateDir::open(dir.path()).unwrap();
        let journal = Journal::open(&state).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(journal.first_session(), 1);
        let rows = journal.rows_since(0).await.unwrap();
        let of =
            |stage| rows.iter().filter(|row| row.stage == stage).map(|row| (row.session, row.cost_micro)).collect();
        let (closed, alive): (Vec<_>, Vec<_>) = (of(Stage::Closed), of(Stage::Ready));
        assert_eq!(closed, [(1, Some(6_667)), (1, Some(6_667))], "{}", file.display());
        assert_eq!(alive, [(2, None), (2, None)], "{}", file.display());
        journal.intend(row("new", rows[0].intended_at_ms + 60_000)).await.unwrap();
        assert_eq!(journal.launches().await.unwrap().len(), 5);
        read.push(file.file_name().unwrap().to_string_lossy().into_owned());
    }
    read.sort();
    assert_eq!(read, ["schema-3.sql", "schema-4.sql"]);
}

#[test]
fn a_new_journal_knows_everything_from_its_own_session_on_and_so_does_an_empty_old_one() {
    for is_old in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        if is_old {
            schema_1(dir.path(), &[]);
        }
        drop(StateDir::open(dir.path()).unwrap());
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(Journal::open(&state).unwrap().first_session(), 2);
    }
}

#[tokio::test]
async fn a_launch_that_was_found_alive_after_its_close_is_closed_again_at_its_whole_cost() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    journal.intend(row("a", 1)).await.unwrap();
    journal.close_row("a", closing(9)).await.unwrap();
    journal.close_row("a", Closing { cost_micro: 10_000, ..closing(20) }).await.unwrap();
    journal.close_row("a", Closing { cost_micro: 1, ..closing(30) }).await.unwrap();
    let rows = journal.rows_since(0).await.unwrap();
    assert_eq!((rows[0].ended_at_ms, rows[0].cost_micro), (Some(20), Some(10_000)));
}

fn closing(at: i64) -> Closing {
    Closing { ended_at_ms: at, reason: "scaled in".into(), cost_micro: 6_667 }
}

#[tokio::test]
async fn an_intent_survives_a_reopen_and_a_closed_row_leaves_the_open_ones() {
    let dir = tempfile::tempdir().unwrap();
    {
        let state = StateDir::open(dir.path()).unwrap();
        let journal = Journal::open(&state).unwrap();
        journal.intend(row("a", 1)).await.unwrap();
        journal.intend(row("b", 2)).await.unwrap();
        journal.reached("a", Stage::Ready, 5).await.unwrap();
        journal.close_row("a", closing(9)).await.unwrap();
    }
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    assert_eq!(journal.lost_at_ms(), None);
    let open = journal.rows_since(10).await.unwrap();
    assert_eq!(open, [row("b", 2)]);
    let all = journal.rows_since(9).await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].stage, all[0].ready_at_ms, all[0].cost_micro), (Stage::Closed, Some(5), Some(6_667)));
}

#[tokio::test]
async fn a_second_intent_with_the_same_id_and_a_step_back_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    journal.intend(row("a", 1)).await.unwrap();
    journal.reached("a", Stage::Ending, 2).await.unwrap();
    journal.intend(row("a", 7)).await.unwrap();
    journal.reached("a", Stage::Launched, 3).await.unwrap();
    let rows = journal.rows_since(0).await.unwrap();
    assert_eq!((rows.len(), rows[0].stage, rows[0].intended_at_ms), (1, Stage::Ending, 1));
    assert_eq!((rows[0].ready_at_ms, rows[0].ending_at_ms), (None, Some(2)));
}

#[tokio::test]
async fn a_corrupt_journal_is_set_aside_and_a_fresh_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.sqlite"), vec![0x5a; 8192]).unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = Journal::open(&state).unwrap();
    assert!(journal.lost_at_ms().is_some());
    journal.intend(row("a", 1)).await.unwrap();
    let kept = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(kept.into_iter().any(|e| e.file_name().to_string_lossy().contains("corrupt-")));
}

#[test]
fn a_lost_past_is_remembered_by_the_next_start_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.sqlite"), vec![0x5a; 8192]).unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let lost_at = Journal::open(&state).unwrap().lost_at_ms();
    assert!(lost_at.is_some());
    assert_eq!(Journal::open(&state).unwrap().lost_at_ms(), lost_at);
}

#[test]
fn a_journal_that_somebody_else_holds_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    drop(Journal::open(&state).unwrap());
    let other = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
    assert!(Journal::open(&state).is_err());
    drop(other);
    assert_eq!(Journal::open(&state).unwrap().lost_at_ms(), None);
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let error = Journal::open(&state).err().unwrap().to_string();
    assert!(error.contains("99") && error.contains("newer version"), "{error}");
    assert!(path.exists());
}

#[test]
fn sessions_count_up_and_the_secret_stays_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    let (session, secret) = (first.session(), first.secret().to_vec());
    drop(first);
    let second = StateDir::open(dir.path()).unwrap();
    assert_eq!(second.session(), session + 1);
    assert_eq!(second.secret(), secret);
    let mode = std::fs::metadata(dir.path().join("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_with_the_holder_named() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateDir::open(dir.path()).unwrap();
    let error = StateDir::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.contains("node.state_dir"), "{error}");
}

#[test]
fn an_unusable_directory_names_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = StateDir::open(&file.join("state")).err().unwrap().to_string();
    assert!(error.contains("node.state_dir"), "{error}");
}

#[test]
fn an_unreadable_session_counter_goes_on_higher_than_before() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("session"), "garbage").unwrap();
    assert!(StateDir::open(dir.path()).unwrap().session() > 1_000_000_000);
}

/// The latest stay, open ones and those of the budget's day as well, whatever the calendar says; and what was forgotten of
/// a session makes all of it unknown.
#[tokio::test]
async fn the_oldest_closed_launches_are_forgotten_and_nothing_that_counts() {
    const DAY_MS: i64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    let mut store = Store::open_or_set_aside(&path, 1, &Moment::now()).unwrap();
    let closing = |ended_at_ms| Closing { ended_at_ms, reason: "load fell".into(), cost_micro: 1 };
    // Session 2 ran with a calendar that was years ahead.
    let years = 1_000 * DAY_MS;
    let launches =
        [("old", 1, 10), ("open", 1, 20), ("older session", 1, 30), ("ahead", 2, years), ("new", 3, 5 * DAY_MS)];
    for (launch, session, at) in launches {
        store.insert(&LaunchRow { session, ..row(launch, at) }, &Moment::now()).unwrap();
        if launch != "open" {
            store.close(launch, &closing(at + 1), &Moment::now()).unwrap();
        }
    }
    let names = |store: &mut Store| store.launches().unwrap().into_iter().map(|(launch, _)| launch).collect::<Vec<_>>();
    store.forget_oldest(3);
    assert_eq!(names(&mut store), ["open", "older session", "ahead", "new"]);
    assert_eq!(store.first_session().unwrap(), 2, "one of session 1 is forgotten");
    store.forget_oldest(1);
    assert_eq!(names(&mut store), ["open", "ahead", "new"], "what ended within a day of the latest end stays");
    store.insert(&LaunchRow { session: 3, ..row("newest", years + 3 * DAY_MS) }, &Moment::now()).unwrap();
    store.close("newest", &closing(years + 3 * DAY_MS), &Moment::now()).unwrap();
    drop(store);
    let mut store = Store::open_or_set_aside(&path, 4, &Moment::now()).unwrap();
    assert_eq!(names(&mut store), ["open", "ahead", "new", "newest"], "a few are not too many");
    store.forget_oldest(1);
    assert_eq!((names(&mut store), store.first_session().unwrap()), (vec!["open".into(), "newest".into()], 4));
}

#[test]
fn a_raised_session_counter_holds_for_the_next_start_and_is_never_lowered() {
    let dir = tempfile::tempdir().unwrap();
    drop(StateDir::open(dir.path()).unwrap());
    raise_session(dir.path(), 41).unwrap();
    raise_session(dir.path(), 7).unwrap();
    assert_eq!(StateDir::open(dir.path()).unwrap().session(), 42);
}
