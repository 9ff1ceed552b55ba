//! Requests to a node and its answers, on `node/{node}/command/{name}` and `node/{node}/response/{id}`. Both are signed, so
//! who asks is known; correlation and expiry stand inside, since the topic proves nothing.

use serde::{Deserialize, Serialize};

use super::numbered::numbered_enum;

/// Asks a node for something. Carried out at most once for each `id`, and not after `expires_at`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The fleet.
    pub fleet: String,
    /// The node that is asked; `all` asks every one.
    pub node: String,
    /// What for.
    pub name: CommandName,
    /// Chosen by who asks, 1 to 64 characters; the answer bears it.
    pub id: String,
    /// The asker: a node's id, or an operator's name.
    pub from: String,
    /// Not carried out after this, in seconds since 1970.
    pub expires_at: u64,
    /// What the command needs, by name.
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// Names of what goes with [`CommandName::Renew`], each in hexadecimal digits: the Ed25519 key (32 bytes) that the certificate
/// is to be for, and in the answer the certificate (X.509, DER) with that of the authority, where no root has signed it.
pub const PUBLIC_KEY: &str = "public_key";
/// As [`PUBLIC_KEY`] says.
pub const CERTIFICATE: &str = "certificate";
/// As [`PUBLIC_KEY`] says.
pub const ISSUER: &str = "issuer";

impl Command {
    /// An argument's value.
    pub fn argument(&self, name: &str) -> Option<&str> {
        value(&self.arguments, name)
    }
}

impl Response {
    /// The value of something that was asked for.
    pub fn result(&self, name: &str) -> Option<&str> {
        value(&self.results, name)
    }
}

fn value<'a>(arguments: &'a [Argument], name: &str) -> Option<&'a str> {
    arguments.iter().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
}

/// A name and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value, as text.
    #[serde(default)]
    pub value: String,
}

/// A node's answer to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The fleet.
    pub fleet: String,
    /// The node that answers.
    pub node: String,
    /// The command's id.
    pub id: String,
    /// Whether it was done.
    pub done: bool,
    /// What was done, or why not, in one sentence.
    #[serde(default)]
    pub detail: String,
    /// What was asked for, by name.
    #[serde(default)]
    pub results: Vec<Argument>,
}

numbered_enum! {
    /// What a node can be asked for.
    pub enum CommandName {
        /// Announce yourself, since the broker gives no retained messages. Anybody of the fleet may ask.
        Who = 1 "who",
        /// Issue a new certificate for the asker's key `public_key`. A node asks all, for itself; an authority answers.
        Renew = 2 "renew",
    }
}
