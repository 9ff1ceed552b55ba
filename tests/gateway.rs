//! The gateway between real connections: real replicas of the test's own behind it, a real client before it.

#[path = "gateway/support.rs"]
mod support;

#[path = "gateway/admitting.rs"]
mod admitting;
#[path = "gateway/forwarding.rs"]
mod forwarding;
#[path = "gateway/peers.rs"]
mod peers;
#[path = "gateway/refusing.rs"]
mod refusing;
#[path = "gateway/retrying.rs"]
mod retrying;
#[path = "gateway/secured.rs"]
mod secured;
#[path = "gateway/stopping.rs"]
mod stopping;
