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
        ended_at_ms: None,
        end_reason: None,
        price_per_hour_micro: 400_000,
        minimum_billing_ms: 60_000,
        billing_step_ms: 1_000,
        cost_micro: None,
    }
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
