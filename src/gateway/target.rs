//! Which service a path means, and which path its replica sees.

use http::Uri;
use http::uri::PathAndQuery;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `GET /v2`.
    Metadata,
    /// `GET /v2/health/live`.
    Live,
    /// `GET /v2/health/ready`.
    Ready,
    /// To a replica of a service.
    Service(ServiceTarget<'a>),
    /// No route has this path.
    Nowhere,
}

/// A request for a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServiceTarget<'a> {
    pub(super) service: &'a str,
    /// The path that the replica sees, with the query.
    pub(super) path_and_query: PathAndQuery,
    /// Whether `/services/{service}` was taken off the path; the replica learns it as `x-forwarded-prefix`.
    pub(super) is_prefixed: bool,
    pub(super) kind: Kind,
}

/// What a request is for, where that changes how it is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An inference of the Open Inference Protocol: it changes nothing, so it may be repeated.
    Infer,
    /// The readiness of a model: it does not wait for a replica.
    Readiness,
    /// Anything else.
    Other,
}

/// The target and the route's template, which is the low-cardinality name of the route in metrics.
pub(super) fn resolve(uri: &Uri) -> (Target<'_>, &'static str) {
    let path = uri.path();
    match path.trim_end_matches('/') {
        "/v2" => (Target::Metadata, "/v2"),
        "/v2/health/live" => (Target::Live, "/v2/health/live"),
        "/v2/health/ready" => (Target::Ready, "/v2/health/ready"),
        _ => model(uri, path).or_else(|| service(uri, path)).unwrap_or((Target::Nowhere, "unmatched")),
    }
}

fn model<'a>(uri: &'a Uri, path: &'a str) -> Option<(Target<'a>, &'static str)> {
    let (model, rest) = split(path.strip_prefix("/v2/models/")?);
    let path_and_query = uri.path_and_query().filter(|_| !model.is_empty())?.clone();
    let (template, kind) = model_route(rest);
    let target = ServiceTarget { service: model, path_and_query, is_prefixed: false, kind };
    Some((Target::Service(target), template))
}

fn model_route(rest: &str) -> (&'static str, Kind) {
    let (is_versioned, action) = match rest.strip_prefix("/versions/") {
        Some(versioned) => (true, split(versioned).1),
        None => (false, rest),
    };
    match (is_versioned, action.trim_end_matches('/')) {
        (false, "") => ("/v2/models/{model}", Kind::Other),
        (false, "/infer") => ("/v2/models/{model}/infer", Kind::Infer),
        (false, "/ready") => ("/v2/models/{model}/ready", Kind::Readiness),
        (false, "/config") => ("/v2/models/{model}/config", Kind::Other),
        (false, _) => ("/v2/models/{model}/{*path}", Kind::Other),
        (true, "") => ("/v2/models/{model}/versions/{version}", Kind::Other),
        (true, "/infer") => ("/v2/models/{model}/versions/{version}/infer", Kind::Infer),
        (true, "/ready") => ("/v2/models/{model}/versions/{version}/ready", Kind::Readiness),
        (true, "/config") => ("/v2/models/{model}/versions/{version}/config", Kind::Other),
        (true, _) => ("/v2/models/{model}/versions/{version}/{*path}", Kind::Other),
    }
}

fn service<'a>(uri: &'a Uri, path: &'a str) -> Option<(Target<'a>, &'static str)> {
    let (service, rest) = split(path.strip_prefix("/services/")?);
    if service.is_empty() {
        return None;
    }
    let path_and_query = below_prefix(rest, uri.query())?;
    let target = ServiceTarget { service, path_and_query, is_prefixed: true, kind: Kind::Other };
    Some((Target::Service(target), "/services/{service}/{*path}"))
}

fn below_prefix(rest: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let path = if rest.is_empty() { "/" } else { rest };
    match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")).ok(),
        None => PathAndQuery::try_from(path).ok(),
    }
}

/// The first segment and what follows it, slash included.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find('/').unwrap_or(path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uri: &str) -> String {
        let uri: Uri = uri.parse().expect("a URI");
        match resolve(&uri) {
            (Target::Service(target), template) => {
                format!("{} {} {:?} {template}", target.service, target.path_and_query, target.kind)
            }
            (target, template) => format!("{target:?} {template}"),
        }
    }

    #[test]
    fn model_paths_reach_the_service_as_they_are() {
        assert_eq!(told("/v2/models/d/infer"), "d /v2/models/d/infer Infer /v2/models/{model}/infer");
        assert_eq!(told("/v2/models/d?x=1"), "d /v2/models/d?x=1 Other /v2/models/{model}");
        assert_eq!(told("/v2/models/d/ready"), "d /v2/models/d/ready Readiness /v2/models/{model}/ready");
        assert_eq!(
            told("/v2/models/d/versions/1/infer"),
            "d /v2/models/d/versions/1/infer Infer /v2/models/{model}/versions/{version}/infer"
        );
        assert_eq!(told("/v2/models/d/a/b/c"), "d /v2/models/d/a/b/c Other /v2/models/{model}/{*path}");
    }

    #[test]
    fn service_paths_lose_their_prefix_and_keep_their_query() {
        let template = "/services/{service}/{*path}";
        assert_eq!(told("/services/web"), format!("web / Other {template}"));
        assert_eq!(told("/services/web/"), format!("web / Other {template}"));
        assert_eq!(told("/services/web?a=b"), format!("web /?a=b Other {template}"));
        assert_eq!(told("/services/web/a//b%20c?x=/y"), format!("web /a//b%20c?x=/y Other {template}"));
    }

    #[test]
    fn the_gateways_own_paths_and_those_of_nobody() {
        assert_eq!(told("/v2"), "Metadata /v2");
        assert_eq!(told("/v2/"), "Metadata /v2");
        assert_eq!(told("/v2/health/live"), "Live /v2/health/live");
        for path in ["/", "/v2/models", "/v2/models/", "/services/", "/v2/health", "/v3", "/servicesx/a"] {
            assert_eq!(told(path), "Nowhere unmatched", "{path}");
        }
    }
}
