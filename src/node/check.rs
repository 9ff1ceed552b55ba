//! What a start would refuse, known without starting: everything that this build, this box's files and the configuration do
//! not make possible together. Nothing is started or connected; of files, an interrupted renewal of the credential is finished.

use std::io;

use edge_config::{Config, Runtime};

use super::access::Access;
use super::{NodeError, embedded, links, parts, trust};

#[cfg(feature = "onnx")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the engine has a problem to tell")]
fn check_engine(_: &str, _: &Runtime) -> Result<(), NodeError> {
    Ok(())
}

#[cfg(not(feature = "onnx"))]
fn check_engine(service: &str, runtime: &Runtime) -> Result<(), NodeError> {
    match runtime {
        Runtime::Onnx { .. } => Err(NodeError::Setting(format!(
            "service.{service}.local.runtime = \"onnx\" is not in this build; let a program serve the model (runtime = \"process\"), \
             or build one that has it: cargo install --path . --locked"
        ))),
        _ => Ok(()),
    }
}

/// Every problem that a start would end with, in words that name the key and the mend.
///
/// # Errors
/// Where this box does not let itself be asked.
pub fn problems(config: &Config) -> io::Result<Vec<String>> {
    let own = std::env::current_exe()?;
    let parts = [
        parts::caps(config).map(drop),
        parts::dialer(config).map(drop),
        trust::check_credentials(config),
        trust::check_authority(config),
        trust::users(config).map(drop),
        embedded::check(config),
    ];
    let brokers = links::ears(config).into_iter().map(|ear| Access::new(config, None, ear).check());
    let engines = config.services.iter().map(|(name, service)| check_engine(name.as_str(), &service.local.runtime));
    Ok(parts
        .into_iter()
        .chain(brokers)
        .chain(engines)
        .chain(parts::check_adapters(config, &own))
        .filter_map(Result::err)
        .map(|problem: NodeError| problem.to_string())
        .collect())
}
