//! What a provider can do, and above all what ends an instance there when its owner is gone for good.

use std::time::Duration;

/// What one configured adapter can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// What ends an instance whose owner is gone.
    pub life_bound: LifeBound,
    /// How many instances the account holds at once, of all owners together; `None` where the provider sets no limit
    /// or does not tell.
    pub capacity: Option<u32>,
}

/// What bounds an instance's life without its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeBound {
    /// The instance ends itself, drain included, when its lease was not renewed in time.
    Renewable,
    /// The provider ends the instance this long after its start, renewed or not.
    MaxLife(Duration),
    /// The provider ends the instance after this long without a request.
    IdleTimeout(Duration),
    /// Nothing ends it: an orphan runs, and costs, until somebody sees it.
    Unbounded,
}
