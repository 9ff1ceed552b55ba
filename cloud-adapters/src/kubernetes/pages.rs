//! All objects that a selector finds, page by page: the whole list, or an error. A list with a page missing would be
//! taken for instances that are gone.

use serde_json::Value;

use super::Provider;
use super::call::{Call, Resource, Verb};
use super::failure::failure;
use crate::AdapterError;

/// Objects in a page: a Job and its managed fields are about 5 kB, so a page is about a megabyte.
const PAGE: usize = 250;

/// Pages of one list: 10,000 instances of one namespace, more than a node could watch in its interval.
const MAX_PAGES: usize = 40;

/// How often a list starts over whose continuation has expired, which takes five minutes between two pages.
const MAX_STARTS: usize = 3;

/// A whole list, and the cluster's clock when it was read.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    pub(super) now: Option<i64>,
}

/// Reads every page, as of the moment of the call (no resource version is named, so no cache answers).
pub(super) async fn all(provider: &Provider, resource: Resource, selector: &str) -> Result<Listed, AdapterError> {
    for _ in 0..MAX_STARTS {
        if let Some(listed) = from_start(provider, resource, selector).await? {
            return Ok(listed);
        }
    }
    Err(AdapterError::transient(format!(
        "the list of {} expired {MAX_STARTS} times between two pages: the cluster is too slow now",
        resource.full_name()
    )))
}

/// `None` where the continuation expired (410 Gone).
async fn from_start(provider: &Provider, resource: Resource, selector: &str) -> Result<Option<Listed>, AdapterError> {
    let (mut items, mut next) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let call = page(&provider.options.namespace, resource, selector, next.take());
        let answer = provider.ask(call.clone()).await?;
        match answer.status {
            200 => {}
            410 => return Ok(None),
            _ => return Err(failure(&call, &answer, &provider.options)),
        }
        let Value::Array(found) = &answer.body["items"] else {
            return Err(AdapterError::transient(format!("{call:?} was answered with what is no list; ask again")));
        };
        items.extend(found.iter().cloned());
        match answer.body["metadata"]["continue"].as_str() {
            None | Some("") => return Ok(Some(Listed { items, now: answer.now })),
            Some(token) => next = Some(token.to_owned()),
        }
    }
    Err(AdapterError::transient(format!(
        "there are more than {} {} with {selector}: remove what is no longer wanted",
        MAX_PAGES * PAGE,
        resource.full_name()
    )))
}

fn page(namespace: &str, resource: Resource, selector: &str, next: Option<String>) -> Call {
    let call =
        Call::new(Verb::List, resource, namespace).with("labelSelector", selector).with("limit", PAGE.to_string());
    match next {
        Some(token) => call.with("continue", token),
        None => call,
    }
}
