//! Looks at all that a launch needs at a daemon, for an operator: who we are there, how much there is, the image and what
//! is in it, and where ports will be. Starts nothing.

use bollard::models::{ContainerCreateBody, ImageInspect, SystemInfo};

use super::daemon::Created;
use super::{Provider, labels, takes_room};
use crate::{AdapterError, Finding, Subject};

/// Where daemons look for programs in an image that sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes in a gibibyte, as memory is told.
const GIB: i64 = 1 << 30;

impl Provider {
    pub(super) async fn look(&self) -> Vec<Finding> {
        let info = match self.daemon.info().await {
            Ok(info) => info,
            // Nothing else can be told of a daemon that does not answer.
            Err(error) => return vec![Finding::bad(Subject::Credentials, error.with_causes())],
        };
        vec![self.credentials(&info).await, self.quota(&info).await, self.image(&info).await, self.network()]
    }

    async fn credentials(&self, info: &SystemInfo) -> Finding {
        let shown = &self.daemon.target.shown;
        match self.daemon.version().await {
            Err(error) => Finding::bad(Subject::Credentials, error.with_causes()),
            Ok(version) => {
                let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
                let (version, api) = (told(&version.version), told(&version.api_version));
                let words = format!("{shown} is docker {version} (API {api}) on {}", told(&info.name));
                Finding::good(Subject::Credentials, words)
            }
        }
    }

    async fn quota(&self, info: &SystemInfo) -> Finding {
        let containers = match self.daemon.list(vec![labels::LAUNCH.to_owned()]).await {
            Ok(containers) => containers,
            Err(error) => return Finding::bad(Subject::Quota, error.with_causes()),
        };
        let alive = containers.iter().filter(|container| takes_room(container)).count();
        let most = self.options.max_instances.map_or("without a limit".to_owned(), |most| format!("of at most {most}"));
        let (cpus, memory) = (info.ncpu.unwrap_or(0), info.mem_total.unwrap_or(0) / GIB);
        let words =
            format!("{alive} instances are alive, {most}; the machine has {cpus} CPUs and {memory} GiB of memory");
        Finding::good(Subject::Quota, words)
    }

    async fn image(&self, info: &SystemInfo) -> Finding {
        match self.look_at_image(info).await {
            Ok(finding) => finding,
            Err(error) => Finding::bad(Subject::Image, error.with_causes()),
        }
    }

    async fn look_at_image(&self, info: &SystemInfo) -> Result<Finding, AdapterError> {
        let Some(image) = &self.options.image else {
            let (own, program) = (self.own_image_name().await?, self.options.program.display());
            let words = format!("instances without an image get {own}, made from {program}");
            return Ok(Finding::good(Subject::Image, words));
        };
        let Some(found) = self.daemon.image(image).await? else { return Ok(self.missing(image)) };
        let holds_wrapper = self.holds_wrapper(image, &found).await?;
        let (wrapper, made_for) = (&self.options.wrapper, found.architecture.as_deref().unwrap_or("unknown"));
        if !holds_wrapper {
            let words = format!("the image {image} does not hold the wrapper: put `{wrapper}` into it");
            return Ok(Finding::bad(Subject::Image, words));
        }
        let theirs = info.architecture.as_deref().unwrap_or("unknown");
        let words = format!("the image {image} for {made_for} is there and holds `{wrapper}`");
        if is_same_machine(made_for, theirs) {
            return Ok(Finding::good(Subject::Image, words));
        }
        Ok(Finding::doubtful(Subject::Image, format!("{words}, but the machine is {theirs}: it may not run there")))
    }

    fn missing(&self, image: &str) -> Finding {
        match self.options.pull {
            super::Pull::Never => {
                let words =
                    format!("the image {image} is not at the daemon: pull or build it there, or let the adapter pull");
                Finding::bad(Subject::Image, words)
            }
            super::Pull::Missing => Finding::doubtful(Subject::Image, format!("the image {image} will be pulled")),
        }
    }

    /// Looks into the image through a container that is never started, and removed again.
    async fn holds_wrapper(&self, image: &str, found: &ImageInspect) -> Result<bool, AdapterError> {
        // No launch id has an underscore, so it is in no instance's way.
        let name = format!("tidegate_check_{}", std::process::id());
        let command = Some(vec!["never-started".to_owned()]);
        let body = ContainerCreateBody { image: Some(image.to_owned()), cmd: command, ..Default::default() };
        self.daemon.remove(&name).await?;
        match self.daemon.create(&name, body).await? {
            Created::Made => {}
            Created::NameTaken => return Err(AdapterError::transient(format!("another check is at work on {name}"))),
            Created::NoImage(error) => return Err(error),
        }
        let looked = self.first_written(&name, &wrapper_paths(&self.options.wrapper, found)).await;
        self.daemon.remove(&name).await?;
        looked
    }

    async fn first_written(&self, name: &str, paths: &[String]) -> Result<bool, AdapterError> {
        for path in paths {
            if self.daemon.written_at(name, path).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn network(&self) -> Finding {
        if let Err(error) = self.check_network() {
            return Finding::bad(Subject::Network, error.with_causes());
        }
        let (publish, host) = (self.publish(), self.host());
        let words = format!("ports are published on {publish}, any that is free, and reached at {host}");
        if publish.is_loopback() && self.daemon.target.remote_host().is_some() && self.options.address.is_none() {
            let remote =
                format!("{words}, which is the daemon's own machine: set `publish` to an address of its network");
            return Finding::doubtful(Subject::Network, remote);
        }
        Finding::good(Subject::Network, words)
    }
}

/// Where the wrapper may lie: where it is named by path, else in each directory of the image's PATH.
fn wrapper_paths(wrapper: &str, image: &ImageInspect) -> Vec<String> {
    if wrapper.contains('/') {
        return vec![wrapper.to_owned()];
    }
    let variables = image.config.as_ref().and_then(|config| config.env.as_ref()).into_iter().flatten();
    let path = variables.filter_map(|variable| variable.strip_prefix("PATH=")).next().unwrap_or(DEFAULT_PATH);
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| format!("{directory}/{wrapper}"))
        .collect()
}

/// Images name machines as Go does, daemons as `uname -m` does.
fn is_same_machine(image: &str, daemon: &str) -> bool {
    let as_go = match daemon {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        other => other,
    };
    image == as_go
}
