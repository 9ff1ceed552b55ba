//! Inference over MQTT: what a sensor publishes on `infer/{service}/{client}` is asked of this node's own gateway, and the
//! answer goes out on the client's reply topic, by the link that brought the request.
//!
//! The link's task only puts a request into a bounded queue (`intake`). A task on the gateway's runtime takes it out (`clerk`),
//! reads it (`request`), leaves out what it has had before (`seen`), and asks the gateway as an HTTP client would: admission,
//! balancing, bursting, limits and metrics are the same. `reply` makes a message of the answer.
//!
//! Requests are not signed: who may ask, and read which replies, is the broker's rule. What is held to here is that a reply
//! goes to the client whose name stands in the request's topic, and to nobody else.

mod clerk;
mod intake;
mod meters;
mod reply;
mod request;
mod seen;

pub use clerk::{BadPath, Clerk, Desk};

/// Requests that are held at once, waiting and being answered. More than wait for a service by default (`service.X.queue`), so
/// that it is the service's own line which says no, with an answer.
const MAX_HELD: usize = 2_048;
/// And their bytes: a hundred and more of the largest that MQTT carries.
const MAX_HELD_BYTES: usize = 16 << 20;
