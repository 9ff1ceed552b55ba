//! The profiles that are compiled in: whole configurations to start from, each also a file to read.

use std::fmt;
use std::str::FromStr;

/// A configuration that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Two local replicas of the compiled-in digits model, and a cloud of processes on this machine.
    Quickstart,
    /// A small box: one local replica, a slow tick, and no cloud.
    GatewaySmall,
    /// A box with an accelerator, whose models are served by programs that know it.
    GatewayGpu,
    /// The box that carries a site's broker.
    Hub,
    /// A box behind a mobile link: everything at home, and little of it, in a daily budget, to the fleet's brokers.
    Cellular,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::Quickstart, Self::GatewaySmall, Self::GatewayGpu, Self::Hub, Self::Cellular];

    /// The name that `--profile` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quickstart => "quickstart",
            Self::GatewaySmall => "gateway-small",
            Self::GatewayGpu => "gateway-gpu",
            Self::Hub => "hub",
            Self::Cellular => "cellular",
        }
    }

    /// The commented TOML, ready to be written to a file and edited.
    pub fn text(self) -> &'static str {
        match self {
            Self::Quickstart => include_str!("../profiles/quickstart.toml"),
            Self::GatewaySmall => include_str!("../profiles/gateway-small.toml"),
            Self::GatewayGpu => include_str!("../profiles/gateway-gpu.toml"),
            Self::Hub => include_str!("../profiles/hub.toml"),
            Self::Cellular => include_str!("../profiles/cellular.toml"),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No profile has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no profile is called {0:?}; there are quickstart, gateway-small, gateway-gpu, hub and cellular")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}
