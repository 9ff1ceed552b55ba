//! Who may watch at a hub by user and password: the users of a file, each with a hash that tells nothing of the password.
//!
//! The file is one that `mosquitto_passwd` writes and Mosquitto reads (`name:$7$rounds$salt$hash`, PBKDF2 with HMAC-SHA-512),
//! so that a site that outgrows its hub takes its users along.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};

use crate::host::file;

/// Rounds of a new hash: what OWASP advises for PBKDF2 with HMAC-SHA-512; a tenth of a second on a gateway.
const ROUNDS: NonZeroU32 = NonZeroU32::new(210_000).unwrap();
/// Fewer are guessed too fast where the file gets lost; `mosquitto_passwd` makes 101 unless told otherwise by `-I`.
const MIN_ROUNDS: u32 = 50_000;
/// More would keep a gateway busy for seconds with each login.
const MAX_ROUNDS: u32 = 2_000_000;
/// By chance never twice (RFC 8018 section 4.1 asks for 8 at least).
const SALT_BYTES: usize = 16;
/// What SHA-512 gives, and Mosquitto keeps.
const HASH_BYTES: usize = 64;
/// Users are people and dashboards of a site.
const MAX_USERS: usize = 1_000;
/// Each takes some 150 bytes.
const MAX_FILE_BYTES: u64 = 512 * 1024;
/// Longer names and passwords are no people's.
const MAX_NAME_BYTES: usize = 64;
const MAX_PASSWORD_BYTES: usize = 1_024;
/// Letters of a generated password: 32, so that five bits choose one, and none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Of 5 bits each: 100 bits.
const GENERATED_LETTERS: usize = 20;

/// Why users cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A line of it.
    #[error("{path}:{line}: {reason}; `tidegate fleet user NAME --file {path}` writes such lines")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that cannot stand in the file.
    #[error("{0:?} cannot be a user's name: use 1 to 64 letters, digits and -_.@")]
    Name(String),
    /// A password that nobody could use.
    #[error("a password has 1 to 1024 bytes")]
    Password,
    /// Enough.
    #[error("there are {MAX_USERS} users already; remove one first")]
    Full,
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(String),
}

/// What a password is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// Users with their passwords' hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, PasswordHash>);

impl Users {
    /// Reads a file; one that is not there has none.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let unusable = |reason: String| UsersError::File { path: path.to_owned(), reason };
        let found = std::fs::metadata(path);
        if found.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(Self::default());
        }
        if found.map_err(|error| unusable(error.to_string()))?.len() > MAX_FILE_BYTES {
            return Err(unusable(format!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        Self::parse(&text).map_err(|(line, reason)| UsersError::Line { path: path.to_owned(), line, reason })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = user(line).map_err(|reason| (at + 1, reason))?;
            users.insert(name, hash);
        }
        if users.len() > MAX_USERS { Err((MAX_USERS, format!("more than {MAX_USERS} users"))) } else { Ok(Self(users)) }
    }

    /// Writes them, for the owner alone.
    pub fn write(&self, path: &Path) -> Result<(), UsersError> {
        let line = |(name, hash): (&String, &PasswordHash)| {
            let (salt, digest) = (STANDARD.encode(&hash.salt), STANDARD.encode(&hash.hash));
            format!("{name}:$7${}${salt}${digest}\n", hash.rounds)
        };
        let text: String = self.0.iter().map(line).collect();
        file::replace(path, text.as_bytes())
            .map_err(|error| UsersError::File { path: path.to_owned(), reason: error.to_string() })
    }

    /// Gives a user a password, whether new or known. Says whether it was known.
    pub fn set(&mut self, name: &str, password: &str) -> Result<bool, UsersError> {
        if !is_name(name) {
            return Err(UsersError::Name(name.to_owned()));
        }
        if !(1..=MAX_PASSWORD_BYTES).contains(&password.len()) {
            return Err(UsersError::Password);
        }
        if self.0.len() >= MAX_USERS && !self.0.contains_key(name) {
            return Err(UsersError::Full);
        }
        Ok(self.0.insert(name.to_owned(), PasswordHash::of(password)?).is_some())
    }

    /// Takes a user out. Says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// What a user's password is checked against.
    pub fn hash_of(&self, name: &str) -> Option<&PasswordHash> {
        self.0.get(name)
    }

    /// Checks a password: slow by intent, and as slow for a user who is not there, so that names cannot be tried out.
    pub fn check(&self, name: &str, password: &[u8]) -> Option<&PasswordHash> {
        let known = self.0.get(name);
        let nobody = PasswordHash { rounds: ROUNDS, salt: vec![0; SALT_BYTES], hash: vec![0; HASH_BYTES] };
        let is_right = password.len() <= MAX_PASSWORD_BYTES && known.unwrap_or(&nobody).is_of(password);
        known.filter(|_| is_right)
    }
}

impl PasswordHash {
    fn of(password: &str) -> Result<Self, UsersError> {
        let (mut salt, mut hash) = (vec![0; SALT_BYTES], vec![0; HASH_BYTES]);
        getrandom::fill(&mut salt).map_err(|error| UsersError::NoRandomness(error.to_string()))?;
        pbkdf2::derive(PBKDF2_HMAC_SHA512, ROUNDS, &salt, password.as_bytes(), &mut hash);
        Ok(Self { rounds: ROUNDS, salt, hash })
    }

    fn is_of(&self, password: &[u8]) -> bool {
        pbkdf2::verify(PBKDF2_HMAC_SHA512, self.rounds, &self.salt, password, &self.hash).is_ok()
    }
}

/// A password that nobody guesses, and that a shell takes as it is.
pub fn generate_password() -> Result<String, UsersError> {
    let mut random = [0; GENERATED_LETTERS];
    getrandom::fill(&mut random).map_err(|error| UsersError::NoRandomness(error.to_string()))?;
    let letters: Vec<char> = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(letters.chunks(5).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

fn is_name(name: &str) -> bool {
    let usable = |letter: char| letter.is_ascii_alphanumeric() || "-_.@".contains(letter);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(usable)
}

fn user(line: &str) -> Result<(String, PasswordHash), String> {
    let (name, hash) = line.split_once(':').ok_or("it is not NAME:HASH")?;
    if !is_name(name) {
        return Err(format!("{name:?} cannot be a user's name"));
    }
    let fields: Vec<&str> = hash.split('$').collect();
    let ["", "7", rounds, salt, digest] = fields[..] else {
        return Err("its hash is not of the kind $7$ (PBKDF2 with SHA-512)".to_owned());
    };
    let rounds = rounds.parse().ok().and_then(NonZeroU32::new).ok_or("its number of rounds is none")?;
    if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds.get()) {
        return Err(format!("its hash has {rounds} rounds, and it takes {MIN_ROUNDS} to {MAX_ROUNDS}"));
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| "its salt or hash is not base64".to_owned());
    let (salt, hash) = (bytes(salt)?, bytes(digest)?);
    if salt.is_empty() || hash.len() != HASH_BYTES {
        return Err(format!("it needs a salt, and a hash of {HASH_BYTES} bytes"));
    }
    Ok((name.to_owned(), PasswordHash { rounds, salt, hash }))
}

/// A file of users that may change while it is used.
#[derive(Debug)]
pub struct UsersFile {
    path: PathBuf,
    read: Mutex<(Version, Arc<Users>)>,
}

/// What tells one content of a file from the next, and one that may be read from one that may not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version(Option<(u64, i64, i64, u64)>);

impl UsersFile {
    /// Reads it for the first time; from then on it need not be there.
    pub fn open(path: &Path) -> Result<Self, UsersError> {
        if let Err(error) = std::fs::metadata(path) {
            return Err(UsersError::File { path: path.to_owned(), reason: error.to_string() });
        }
        let (version, users) = (Version::of(path), Users::read(path)?);
        Ok(Self { path: path.to_owned(), read: Mutex::new((version, Arc::new(users))) })
    }

    /// As it stands now. One that cannot be read leaves those who were there last; one that is gone has nobody.
    pub fn current(&self) -> Arc<Users> {
        let now = Version::of(&self.path);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != now {
            match Users::read(&self.path) {
                Ok(users) => read.1 = Arc::new(users),
                Err(error) => tracing::warn!(%error, "mqtt.users_file cannot be read; who was in it before stays"),
            }
            read.0 = now;
        }
        read.1.clone()
    }
}

impl Version {
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok();
        Self(found.map(|file| (file.ino(), file.ctime(), file.ctime_nsec(), file.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `mosquitto_passwd -I 50000 -b` of Mosquitto 2.0.11: another's hash of a password that is known.
    const MOSQUITTO: &str = include_str!("users/mosquitto_passwd.txt");

    #[test]
    fn a_password_is_known_again_and_another_is_not() {
        let mut users = Users::default();
        assert!(!users.set("watcher", "correct horse").unwrap());
        assert!(users.check("watcher", b"correct horse").is_some());
        for (name, password) in [("watcher", "Correct horse"), ("watcher", ""), ("other", "correct horse")] {
            assert!(users.check(name, password.as_bytes()).is_none(), "{name} {password}");
        }
        assert!(users.set("watcher", "another").unwrap(), "it was there");
        assert!(users.check("watcher", b"correct horse").is_none());
        assert!(users.remove("watcher") && !users.remove("watcher"));
        assert!(users.check("watcher", b"another").is_none());
    }

    #[test]
    fn the_file_keeps_no_password_and_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let mut users = Users::read(&path).expect("one that is not there has none");
        users.set("watcher", "correct horse").unwrap();
        users.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("watcher:$7$210000$") && !text.contains("horse"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Users::read(&path).unwrap(), users);
    }

    #[test]
    fn what_mosquitto_wrote_is_read() {
        let users = Users::parse(MOSQUITTO).unwrap();
        assert!(users.check("tester", b"correct horse").is_some());
        assert!(users.check("tester", b"wrong").is_none());
    }

    #[test]
    fn lines_that_would_let_somebody_in_by_chance_are_refused_by_their_number() {
        let good = "a:$7$210000$c2FsdA==$";
        let hash = STANDARD.encode([1; HASH_BYTES]);
        let bad = [
            "plain".to_owned(),
            "a:password".to_owned(),
            format!("a:$6${hash}"),
            format!("a:$7$101$c2FsdA==${hash}"),
            format!("a:$7$0$c2FsdA==${hash}"),
            format!("a:$7$4000000000$c2FsdA==${hash}"),
            format!("a:$7$210000$${hash}"),
            good.to_owned(),
            format!("{good}AAAA"),
            format!("{good}{hash}$x"),
            format!("a b:$7$210000$c2FsdA==${hash}"),
            format!(":$7$210000$c2FsdA==${hash}"),
        ];
        for line in bad {
            let refused = Users::parse(&format!("# users\n\n{line}\n")).unwrap_err();
            assert_eq!(refused.0, 3, "{line}: {refused:?}");
        }
        assert!(Users::parse(&format!("{good}{hash}\n")).is_ok());
    }

    #[test]
    fn a_file_that_changes_counts_and_a_broken_one_leaves_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        assert!(UsersFile::open(&path).is_err(), "what is missing at the start is told at the start");
        let mut users = Users::default();
        users.set("one", "1").unwrap();
        users.write(&path).unwrap();
        let file = UsersFile::open(&path).unwrap();
        users.set("two", "2").unwrap();
        users.write(&path).unwrap();
        assert!(file.current().hash_of("two").is_some());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(file.current().hash_of("two").is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(file.current().hash_of("one").is_none());
    }

    #[test]
    fn generated_passwords_differ_and_need_no_quotes() {
        let (one, other) = (generate_password().unwrap(), generate_password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), GENERATED_LETTERS + 3);
        assert!(one.bytes().all(|byte| LETTERS.contains(&byte) || byte == b'-'), "{one}");
    }
}
