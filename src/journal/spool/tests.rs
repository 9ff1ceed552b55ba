use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;

const LINKS: [&str; 2] = ["cbor", "json"];
const PATIENCE: Duration = Duration::from_secs(30);

/// A link that takes so many letters at once.
#[derive(Clone)]
struct Taker {
    letters: Arc<Mutex<Vec<Letter>>>,
    room: Arc<Mutex<usize>>,
}

impl Taker {
    fn with_room(room: usize) -> Self {
        Self { letters: Arc::default(), room: Arc::new(Mutex::new(room)) }
    }

    fn attach(&self, spool: &Spool, link: &'static str) {
        let taker = self.clone();
        spool.attach(
            link,
            Box::new(move |letter| {
                let mut room = taker.room.lock().unwrap();
                let takes = *room > 0;
                if takes {
                    *room -= 1;
                    taker.letters.lock().unwrap().push(letter);
                }
                takes
            }),
        );
    }

    fn texts(&self) -> Vec<String> {
        self.letters.lock().unwrap().iter().map(|letter| String::from_utf8(letter.payload.clone()).unwrap()).collect()
    }

    /// The broker has the first so many that were not acknowledged before.
    fn release(&self, releases: &Releases, tickets: &[u64]) {
        *self.room.lock().unwrap() += tickets.len();
        releases.released(tickets);
    }

    fn tickets(&self) -> Vec<u64> {
        self.letters.lock().unwrap().iter().map(|letter| letter.ticket).collect()
    }
}

fn say(spool: &Spool, text: &str) {
    for link in LINKS {
        assert!(spool.append(link, &format!("{link}/event"), text.as_bytes()));
    }
}

fn flush(spool: &Spool) {
    let _ended = spool.flush().blocking_recv();
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("e{number}")).collect()
}

#[test]
fn what_was_said_is_on_disk_before_it_is_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    let path = dir.path().join("spool.sqlite");
    let size_at_hand_over = Arc::new(Mutex::new(None));
    let (seen, wal) = (size_at_hand_over.clone(), format!("{}-wal", path.display()));
    spool.attach(
        "cbor",
        Box::new(move |letter| {
            let log = std::fs::read(&wal).unwrap();
            *seen.lock().unwrap() = Some(log.windows(letter.payload.len()).any(|part| part == letter.payload));
            true
        }),
    );
    say(&spool, "a cost of 0.40 EUR");
    flush(&spool);
    assert_eq!(*size_at_hand_over.lock().unwrap(), Some(true));
    assert_eq!(spool.status().events, BTreeMap::from([("cbor", 1), ("json", 1)]));
}

#[test]
fn what_no_broker_took_is_handed_on_after_a_restart_with_the_same_bytes_and_before_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    numbers(0..3).iter().for_each(|text| say(&spool, text));
    let taker = Taker::with_room(10);
    taker.attach(&spool, "cbor");
    flush(&spool);
    assert_eq!(taker.texts(), numbers(0..3));
    let first = taker.tickets()[0];
    taker.release(&spool.releases("cbor"), &[first]);
    drop(spool);

    let spool = Spool::open(dir.path(), 2, &LINKS);
    assert_eq!(spool.status().events, BTreeMap::from([("cbor", 2), ("json", 3)]));
    say(&spool, "e3");
    let (cbor, json) = (Taker::with_room(10), Taker::with_room(10));
    cbor.attach(&spool, "cbor");
    json.attach(&spool, "json");
    flush(&spool);
    assert_eq!(cbor.texts(), numbers(1..4));
    assert_eq!(json.texts(), numbers(0..4));
    assert_eq!(json.letters.lock().unwrap()[0].topic, "json/event");
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    numbers(0..20).iter().for_each(|text| say(&spool, text));
    flush(&spool);
    // What a kill leaves: the files as they are, nothing closed. The lock of the running one does not hold for copies.
    let after = tempfile::tempdir().unwrap();
    for name in ["spool.sqlite", "spool.sqlite-wal"] {
        std::fs::copy(dir.path().join(name), after.path().join(name)).unwrap();
    }
    let survivor = Spool::open(after.path(), 2, &LINKS);
    let taker = Taker::with_room(100);
    taker.attach(&survivor, "json");
    flush(&survivor);
    assert_eq!(taker.texts(), numbers(0..20));
}

#[test]
fn a_link_gets_as_much_as_it_has_room_for_and_the_rest_as_it_releases() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    let taker = Taker::with_room(2);
    taker.attach(&spool, "cbor");
    numbers(0..200).iter().for_each(|text| say(&spool, text));
    flush(&spool);
    assert_eq!(taker.texts(), numbers(0..2));
    let releases = spool.releases("cbor");
    let mut done = 0;
    while done < 200 {
        wait_until("the next letter", || taker.tickets().len() > done);
        let tickets = taker.tickets();
        taker.release(&releases, &tickets[done..]);
        done = tickets.len();
    }
    assert_eq!(taker.texts(), numbers(0..200), "each once and in order");
    wait_until("all is off the disk", || spool.status().events["cbor"] == 0);
    assert_eq!(spool.status().events["json"], 200);
}

#[test]
fn the_oldest_go_when_too_many_wait_and_that_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    let large = "x".repeat(100_000);
    // In steps, since memory has a bound of its own.
    for number in 0..100 {
        assert!(spool.append("cbor", "t", format!("{number:03}{large}").as_bytes()));
        flush(&spool);
    }
    let status = spool.status();
    assert!(status.bytes <= ON_DISK.bytes && status.bytes > ON_DISK.bytes / 2, "{status:?}");
    assert_eq!(status.events["cbor"] + status.dropped, 100, "{status:?}");
    let taker = Taker::with_room(1_000);
    taker.attach(&spool, "cbor");
    flush(&spool);
    let first: u64 = taker.texts()[0][..3].parse().unwrap();
    assert_eq!(first, status.dropped, "the newest are there");
}

#[test]
fn a_burst_of_thousands_costs_its_speaker_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    let since = Instant::now();
    let mut longest = Duration::ZERO;
    for text in numbers(0..2_000) {
        let one = Instant::now();
        say(&spool, &text);
        longest = longest.max(one.elapsed());
    }
    let took = since.elapsed();
    flush(&spool);
    println!("4,000 events appended in {took:?}, the longest pair in {longest:?}; on disk after {:?}", since.elapsed());
    assert_eq!(spool.status().events, BTreeMap::from([("cbor", 2_000), ("json", 2_000)]));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[test]
fn a_corrupt_spool_is_set_aside_and_a_fresh_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..3 {
        std::fs::write(dir.path().join("spool.sqlite"), vec![0x5a; 20_000]).unwrap();
        let spool = Spool::open(dir.path(), round, &LINKS);
        say(&spool, "e");
        flush(&spool);
        assert_eq!((spool.status().problem, spool.status().events["cbor"]), (None, 1));
        assert_eq!(std::fs::read(dir.path().join("spool.corrupt")).unwrap(), vec![0x5a; 20_000]);
    }
}

#[test]
fn a_spool_of_a_newer_version_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let newer = rusqlite::Connection::open(dir.path().join("spool.sqlite")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99;").unwrap();
    drop(newer);
    let spool = Spool::open(dir.path(), 1, &LINKS);
    say(&spool, "e");
    flush(&spool);
    assert_eq!(spool.status().problem, None);
    assert!(dir.path().join("spool.corrupt").exists());
}

#[test]
fn what_waited_for_a_tree_that_is_no_longer_said_goes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 1, &LINKS);
    say(&spool, "e");
    drop(spool);
    let spool = Spool::open(dir.path(), 2, &["cbor"]);
    assert_eq!(spool.status().events, BTreeMap::from([("cbor", 1)]));
    drop(spool);
    assert_eq!(Spool::open(dir.path(), 3, &LINKS).status().events, BTreeMap::from([("cbor", 1), ("json", 0)]));
}

/// A path where no database can be: its folder is a file.
fn no_disk(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("state");
    std::fs::write(&path, "in the way").unwrap();
    path
}

#[test]
fn without_a_disk_events_wait_in_memory_are_handed_on_and_saved_once_it_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = no_disk(dir.path());
    let spool = Spool::open(&path, 1, &LINKS);
    let taker = Taker::with_room(1);
    taker.attach(&spool, "cbor");
    numbers(0..3).iter().for_each(|text| say(&spool, text));
    flush(&spool);
    let status = spool.status();
    assert!(status.problem.is_some() && status.unsaved == 6, "{status:?}");
    assert_eq!(taker.texts(), ["e0"], "what the disk does not take is handed on all the same");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    wait_until("it is on disk", || spool.status().events == BTreeMap::from([("cbor", 3), ("json", 3)]));
    assert_eq!((spool.status().problem, spool.status().unsaved), (None, 0));
    let releases = spool.releases("cbor");
    taker.release(&releases, &taker.tickets());
    wait_until("the next", || taker.texts() == ["e0", "e1"]);
    taker.release(&releases, &taker.tickets()[1..]);
    wait_until("the last", || taker.texts() == numbers(0..3));
}

#[test]
fn memory_has_a_bound_where_there_is_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&no_disk(dir.path()), 1, &LINKS);
    let text = "x".repeat(1_000);
    for number in 0..10_000 {
        assert!(spool.append("cbor", "t", format!("{number:05}{text}").as_bytes()));
        if number % 1_000 == 0 {
            flush(&spool);
        }
    }
    flush(&spool);
    let status = spool.status();
    assert!(status.unsaved <= IN_MEMORY.events && status.unsaved + status.dropped == 10_000, "{status:?}");
    let taker = Taker::with_room(10_000);
    taker.attach(&spool, "cbor");
    flush(&spool);
    assert!(taker.texts().last().unwrap().starts_with("09999"), "the newest are there");
}

/// A disk of one megabyte, as root alone can make one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        if std::env::var_os("TIDEGATE_WITHOUT_ROOT").is_some() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        command.status().is_ok_and(|status| status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_what_it_did_not_take_goes_there_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no disk of its own can be mounted here");
        return;
    };
    let spool = Spool::open(disk.0.path(), 1, &LINKS);
    say(&spool, "first");
    flush(&spool);
    let filler = disk.0.path().join("filler");
    let mut room = 1 << 20;
    while room > 512 {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &vec![1; room]).is_ok() {}
        room /= 2;
    }
    let text = "x".repeat(20_000);
    (0..10).for_each(|_| say(&spool, &text));
    flush(&spool);
    let status = spool.status();
    assert!(status.problem.as_deref().is_some_and(|why| why.contains("full")), "{status:?}");
    assert_eq!((status.unsaved, status.dropped), (20, 0));
    let taker = Taker::with_room(100);
    taker.attach(&spool, "cbor");
    flush(&spool);
    assert_eq!(taker.texts().len(), 11, "from disk and from memory");

    std::fs::remove_file(&filler).unwrap();
    wait_until("it is on disk", || spool.status().unsaved == 0);
    assert_eq!((spool.status().events["json"], spool.status().problem), (11, None));
    taker.release(&spool.releases("cbor"), &taker.tickets());
    wait_until("it is off the disk", || spool.status().events["cbor"] == 0);
}

#[test]
fn it_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = crate::journal::StateDir::open(&dir.path().join("state")).unwrap();
    let _spool = Spool::open(state.path(), 1, &LINKS);
    let mode = std::fs::metadata(state.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
