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

impl Command {
    /// An argument's value.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
    }
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
        /// Issue a new certificate for the asker's key `public_key`. A node asks an authority, for itself.
        Renew = 2 "renew",
    }
}
