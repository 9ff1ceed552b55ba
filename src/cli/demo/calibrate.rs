//! What one replica can do, measured: the surge is made from it, so that the demo means the same on any machine.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::go_on;
use super::images::{self, Image};
use super::scene::{SERVICE, Scene};
use super::surge::Client;

/// How long one replica is measured, after a first pass that is not counted.
const MEASURE: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);
/// Two askers keep one replica busy without a pause between two answers.
const ASKERS: usize = 2;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    /// Answers per second, kept busy.
    pub(super) requests_per_s: f64,
}

/// Starts one replica on the core that local replicas will be held to, keeps it busy, and ends it.
pub(super) fn measure(scene: &Scene, interrupted: &AtomicBool) -> anyhow::Result<Replica> {
    let (mut child, lifeline, authority) = start(scene.local_core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        answers(&authority, WARM_UP).await?;
        go_on(interrupted)?;
        let began = Instant::now();
        let answered = answers(&authority, MEASURE).await?;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        Ok::<_, anyhow::Error>(answered as f64 / began.elapsed().as_secs_f64())
    });
    drop(lifeline);
    child.wait()?;
    let requests_per_s = measured?;
    anyhow::ensure!(
        requests_per_s >= 1.0,
        "one replica answers {requests_per_s:.2} requests a second; this machine is too slow"
    );
    Ok(Replica { requests_per_s })
}

fn start(core: usize) -> anyhow::Result<(Child, ChildStdin, String)> {
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command
        .args(["model", "serve", "builtin:digits", "--name", SERVICE, "--watch-stdin", "--cpus"])
        .arg(core.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let lifeline = child.stdin.take().context("no pipe to the replica")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output of the replica")?).read_line(&mut line)?;
    let authority = line.trim().rsplit_once("http://").context("the replica did not say where it listens")?.1;
    Ok((child, lifeline, authority.to_owned()))
}

/// How many answers come in a time, with the replica always busy.
async fn answers(authority: &str, time: Duration) -> anyhow::Result<usize> {
    let client = Client::new(authority);
    let images = Arc::new(images::all());
    let until = Instant::now() + time;
    let mut askers = tokio::task::JoinSet::new();
    for first in 0..ASKERS {
        askers.spawn(ask(client.clone(), images.clone(), first, until));
    }
    askers.join_all().await.into_iter().sum()
}

async fn ask(client: Client, images: Arc<Vec<Image>>, first: usize, until: Instant) -> anyhow::Result<usize> {
    let mut answered = 0;
    for image in images.iter().skip(first).step_by(ASKERS).cycle() {
        if Instant::now() >= until {
            break;
        }
        let answer = client.infer(image, Duration::from_secs(10)).await;
        anyhow::ensure!(answer.status == 200, "the replica answered {}", answer.status);
        answered += 1;
    }
    Ok(answered)
}
