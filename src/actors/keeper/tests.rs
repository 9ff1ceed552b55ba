//! A keeper whose date is anybody's: 1970, 2099, and jumps between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::*;
use crate::trust::Role;
use crate::wire::registry::Registry;
use crate::wire::{CommandName, Encoding, Root};

const LET_IN: UnixSeconds = 1_800_000_000;
const DAY: UnixSeconds = 86_400;
const IN_2099: UnixSeconds = 4_070_908_800;
/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

static DATE: AtomicU64 = AtomicU64::new(0);

fn date_of_the_test() -> UnixSeconds {
    DATE.load(Ordering::SeqCst)
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Told>>>);

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Event(EventKind, String),
    Asked(CommandName),
    Said,
}

impl Heard {
    fn push(&self, told: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    fn count(&self, wanted: impl Fn(&Told) -> bool) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|told| wanted(told)).count()
    }

    async fn wait_for(&self, what: &str, count: usize, wanted: impl Fn(&Told) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.count(&wanted) < count {
            assert!(tokio::time::Instant::now() < deadline, "{what} in {:?}", self.0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.count(&wanted), count, "{what} in {:?}", self.0);
    }
}

impl Actor for Heard {
    type Context = Context<Self>;
}

impl Handler<Report> for Heard {
    type Result = ();

    fn handle(&mut self, Report { kind, data }: Report, _: &mut Self::Context) {
        self.push(Told::Event(kind, data.error.or(data.reason).unwrap_or_default()));
    }
}

impl Handler<Publish> for Heard {
    type Result = ();

    fn handle(&mut self, Publish { message, .. }: Publish, _: &mut Self::Context) {
        let WireMessage::Command(command) = message else { return self.push(Told::Said) };
        self.push(Told::Asked(command.name));
    }
}

impl Handler<Relay> for Heard {
    type Result = ();

    fn handle(&mut self, _: Relay, _: &mut Self::Context) {
        self.push(Told::Said);
    }
}

impl Handler<SayAllAgain> for Heard {
    type Result = ();

    fn handle(&mut self, _: SayAllAgain, _: &mut Self::Context) {
        self.push(Told::Said);
    }
}

struct Site {
    folder: TempDir,
    fleet: Authority,
    files: CredentialFiles,
    signer: Arc<Signer>,
    heard: Heard,
}

impl Site {
    /// A node that was let in for ninety days.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let fleet = Authority::found(&folder.path().join("fleet"), "plant-a", LET_IN).unwrap();
        let files = CredentialFiles::new(&folder.path().join("credentials"));
        let credential = fleet.enroll(&subject(), 90 * DAY, LET_IN).unwrap();
        files.store(&credential, fleet.anchors(), &fleet.trust_message().unwrap()).unwrap();
        let signer = Arc::new(Signer::new(tree(), 1, credential));
        Self { folder, fleet, files, signer, heard: Heard::default() }
    }

    fn start(&self) {
        let identity = Identity { fleet: "plant-a".into(), node: "gw-1".into(), session: 1 };
        let word = self.fleet.trust_message().unwrap();
        let verifier = Arc::new(Verifier::new(tree(), self.fleet.anchors().clone(), word));
        let (clock, registry) = (Clock::start(), Arc::new(Registry::default()));
        let hearing =
            Hearing::new(identity.clone(), clock, self.signer.clone(), verifier.clone(), registry, vec![Ear::Home]);
        let heard = self.heard.clone().start();
        Keeper {
            identity,
            clock,
            calendar: date_of_the_test,
            signer: self.signer.clone(),
            verifier,
            files: self.files.clone(),
            own_fleet: None,
            authority: None,
            publish: heard.clone().recipient(),
            asking: Asking::default(),
            state_dir: self.folder.path().to_owned(),
            is_raising: false,
            say_again: heard.clone().recipient(),
            has_told_end: false,
            hosts: Vec::new(),
            hearing: Arc::new(hearing),
            relay: heard.clone().recipient(),
            is_relaying: false,
            must_relay: BTreeSet::new(),
            has_relayed: BTreeSet::new(),
            is_looking: false,
            not_written: None,
            unsettled: None,
            look: Duration::from_millis(10),
            report: heard.recipient(),
            warned: None,
            refused: None,
        }
        .start();
    }
}

fn tree() -> Root {
    Root::new(Encoding::Cbor, "plant-a").unwrap()
}

fn subject() -> Subject {
    Subject { fleet: "plant-a".into(), name: "gw-1".into(), role: Role::Node, hosts: Vec::new() }
}

fn is_renewed(told: &Told) -> bool {
    matches!(told, Told::Event(EventKind::CredentialRenewed, _))
}

fn says_it_ended(told: &Told) -> bool {
    matches!(told, Told::Event(EventKind::CredentialExpiring, why)
        if why.contains("ended at 20") && why.contains("set the clock") && why.contains("fleet enroll gw-1"))
}

fn asks(told: &Told) -> bool {
    *told == Told::Asked(CommandName::Renew)
}

/// One test, since there is one date.
#[test]
fn a_clock_in_1970_believes_one_in_2099_says_what_to_do_and_jumps_heal() {
    actix::System::new().block_on(async {
        let site = Site::new();
        let heard = site.heard.clone();
        DATE.store(1_000, Ordering::SeqCst);
        site.start();
        // Made long after the fleet's last word, which is all that this clock can tell.
        let next = site.fleet.enroll(&subject(), 90 * DAY, LET_IN + 40 * DAY).unwrap();
        let (chain, word) = (next.chain().to_vec(), site.fleet.trust_message().unwrap());
        site.files.store(&next, site.fleet.anchors(), &word).unwrap();
        heard.wait_for("1970 takes a credential that it is given", 1, is_renewed).await;
        assert_eq!(site.signer.credential().chain(), chain);

        DATE.store(IN_2099, Ordering::SeqCst);
        heard.wait_for("2099 says that it has ended", 1, says_it_ended).await;
        assert_eq!(heard.count(asks), 0, "nobody believes what it would ask");

        // Back, and a year ahead: told again, since it was right in between.
        DATE.store(LET_IN + 41 * DAY, Ordering::SeqCst);
        let third = site.fleet.enroll(&subject(), 90 * DAY, LET_IN + 41 * DAY).unwrap();
        site.files.store(&third, site.fleet.anchors(), &word).unwrap();
        heard.wait_for("it looks again by a right clock", 2, is_renewed).await;
        assert_eq!(heard.count(says_it_ended), 1);
        DATE.store(LET_IN + 41 * DAY + 365 * DAY, Ordering::SeqCst);
        heard.wait_for("a year ahead says that it has ended", 2, says_it_ended).await;

        DATE.store(LET_IN + (41 + 61) * DAY, Ordering::SeqCst);
        heard.wait_for("two thirds are over, and it asks", 1, asks).await;
        assert_eq!((heard.count(is_renewed), heard.count(says_it_ended)), (2, 2));
        assert_eq!(site.signer.credential().chain(), third.chain());
    });
}

#[test]
fn a_word_on_trust_that_is_being_copied_is_not_written_over_and_one_that_is_broken_is() {
    let mut site = Site::new();
    let verifier = Verifier::new(tree(), site.fleet.anchors().clone(), site.fleet.trust_message().unwrap());
    site.fleet.enroll(&Subject { name: "gw-2".into(), ..subject() }, DAY, LET_IN).unwrap();
    site.fleet.revoke("gw-2", LET_IN).unwrap();
    let (newer, path) = (site.fleet.trust_message().unwrap(), site.files.folder().join("trust.cbor"));
    let look = |before: Option<&[u8]>| on_disk(&site.files, &site.signer.credential(), &verifier, before);

    for copied in [0, newer.len() / 2] {
        std::fs::write(&path, &newer[..copied]).unwrap();
        assert_eq!(look(None).unsettled.as_deref(), Some(&newer[..copied]));
        assert_eq!(std::fs::read(&path).unwrap(), newer[..copied], "somebody is writing it");
    }
    std::fs::write(&path, &newer).unwrap();
    assert!(look(Some(&newer[..newer.len() / 2])).has_newer_trust);

    std::fs::write(&path, "broken").unwrap();
    assert_eq!(look(None).unsettled.as_deref(), Some(b"broken".as_slice()));
    assert_eq!(look(Some(b"broken")).unsettled, None);
    assert_eq!(std::fs::read(&path).unwrap(), newer, "nobody is");
}
