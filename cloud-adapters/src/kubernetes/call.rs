//! One call to the API server as a value, its answer, and what carries the one there and the other back. Whatever the
//! adapter asks can so be recorded, replayed and counted without a cluster, and without a client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::DuplexStream;

use crate::AdapterError;

/// A kind of object, by the names that a URL and a Role use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version of the group that every server from 1.20 to 1.36 has.
    pub version: &'static str,
    /// The plural.
    pub plural: &'static str,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

/// Jobs: each is one instance.
pub const JOBS: Resource = resource("batch", "v1", "jobs");
/// Pods, which run what a Job asks for.
pub const PODS: Resource = resource("", "v1", "pods");
/// Secrets: each holds one instance's token, certificate and key.
pub const SECRETS: Resource = resource("", "v1", "secrets");
/// Services, for instances that are reached through one.
pub const SERVICES: Resource = resource("", "v1", "services");
/// Ingresses, for instances that are reached by name.
pub const INGRESSES: Resource = resource("networking.k8s.io", "v1", "ingresses");
/// Quotas of the namespace.
pub const QUOTAS: Resource = resource("", "v1", "resourcequotas");
/// Questions whether we may do something.
pub const REVIEWS: Resource =
    Resource { namespaced: false, ..resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews") };

const fn resource(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
    Resource { group, version, plural, namespaced: true }
}

/// What is done, by the name that a Role uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects that a selector finds, a page of them.
    List,
    /// A new object.
    Create,
    /// An object's end.
    Delete,
}

/// One call.
#[derive(Clone, PartialEq)]
pub struct Call {
    /// What is done.
    pub verb: Verb,
    /// To which kind of object.
    pub resource: Resource,
    /// In which namespace.
    pub namespace: String,
    /// To which object, where it is about one that is there.
    pub name: Option<String>,
    /// Parameters of the URL, not encoded yet.
    pub query: Vec<(&'static str, String)>,
    /// What is sent along.
    pub body: Option<Value>,
    /// Whether the answer should hold the object's metadata alone: all that is wanted of a Secret.
    pub metadata_only: bool,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The server's own clock, in seconds of Unix time, where it told.
    pub now: Option<i64>,
    /// The object, list or Status.
    pub body: Value,
}

/// A result that is not there yet.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, AdapterError>> + Send>>;

/// Sends one call and returns its answer, of whichever status; an error is a call without an answer.
pub type Ask = Arc<dyn Fn(Call) -> Pending<Answer> + Send + Sync>;

/// Opens one connection to the port of an instance in the pod of a name.
pub type Forward = Arc<dyn Fn(String) -> Pending<DuplexStream> + Send + Sync>;

/// The way to an API server.
#[derive(Clone)]
pub struct Transport {
    /// Sends calls.
    pub ask: Ask,
    /// Opens connections to pods.
    pub forward: Forward,
}

impl Verb {
    /// The word that a Role uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl Resource {
    /// The name that `kubectl` takes: `jobs.batch`.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl Call {
    /// A call about the objects of a kind.
    pub fn new(verb: Verb, resource: Resource, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { verb, resource, namespace, name: None, query: Vec::new(), body: None, metadata_only: false }
    }

    /// The same call about one object.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same call with a parameter more.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    /// The same call with a body.
    #[must_use]
    pub fn sending(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The same call for the metadata of its object alone.
    #[must_use]
    pub fn for_metadata(self) -> Self {
        Self { metadata_only: true, ..self }
    }

    /// The HTTP method.
    pub fn method(&self) -> &'static str {
        match self.verb {
            Verb::Get | Verb::List => "GET",
            Verb::Create => "POST",
            Verb::Delete => "DELETE",
        }
    }

    /// The path and the query of the URL.
    pub fn target(&self) -> String {
        let Resource { group, version, plural, namespaced } = self.resource;
        let mut target = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        if namespaced {
            target = format!("{target}/namespaces/{}", encoded(&self.namespace));
        }
        target = format!("{target}/{plural}");
        if let Some(name) = &self.name {
            target = format!("{target}/{}", encoded(name));
        }
        let pairs: Vec<String> = self.query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        if pairs.is_empty() { target } else { format!("{target}?{}", pairs.join("&")) }
    }

    /// What the answer may be written in.
    pub fn accepts(&self) -> &'static str {
        if self.metadata_only {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        }
    }
}

/// Shows no body: a Secret's is one.
impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method(), self.target())
    }
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_the_api_asks_for() {
        let list =
            Call::new(Verb::List, JOBS, "burst").with("labelSelector", "tidegate.dev/node=a,b").with("limit", "2");
        let target = "/apis/batch/v1/namespaces/burst/jobs?labelSelector=tidegate.dev%2Fnode%3Da%2Cb&limit=2";
        assert_eq!(list.target(), target);
        assert_eq!(
            Call::new(Verb::Get, PODS, "a/../b").named("x?y").target(),
            "/api/v1/namespaces/a%2F..%2Fb/pods/x%3Fy"
        );
        let review = Call::new(Verb::Create, REVIEWS, "burst").target();
        assert_eq!(review, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
    }

    #[test]
    fn a_call_never_shows_its_body() {
        let call = Call::new(Verb::Create, SECRETS, "burst").sending(serde_json::json!({"token": "t0ken"}));
        assert_eq!(format!("{call:?}"), "POST /api/v1/namespaces/burst/secrets");
    }
}
