//! What a start would refuse, known without starting: everything that this build, this box's files and the configuration do
//! not make possible together. Nothing is made, opened for writing or connected.

use std::io;

use edge_config::Config;

use super::access::Access;
use super::{NodeError, hub, links, parts, trust};

/// Every problem that a start would end with, in words that name the key and the mend.
///
/// # Errors
/// Where this box does not let itself be asked.
pub fn problems(config: &Config) -> io::Result<Vec<String>> {
    let own = std::env::current_exe()?;
    let parts = [
        parts::adapters(config, &own).map(drop),
        parts::caps(config).map(drop),
        parts::dialer(config).map(drop),
        trust::check_credentials(config),
        trust::check_authority(config),
        hub::users(config).map(drop),
    ];
    let brokers = links::ears(config).into_iter().map(|ear| Access::new(config, None, ear).check());
    Ok(parts.into_iter().chain(brokers).filter_map(Result::err).map(|problem: NodeError| problem.to_string()).collect())
}
