//! `tidegate simulate`: a trace against policies, in virtual time.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::EXIT_USAGE;
use super::terminal::{complain, say, table};
use crate::logic::policy::predictive;
use crate::simulate::contest::{self, Contender, Terms};
use crate::simulate::engine::{ColdStart, Outcome, Provider, World};
use crate::simulate::generate::{Recipe, Shape};
use crate::simulate::plot::{self, Play};
use crate::simulate::read::{self, Format};
use crate::simulate::trace::Trace;
use crate::simulate::tune::{self, Tuned};

mod provider;
mod replay;

/// Replay a trace against scaling policies, in virtual time: late requests, cost, launches.
///
/// The node's own policies decide by the node's own code; `hpa`, `ray` and `skyserve` follow their documented rules with their default
/// parameters, `best-static` is the best fixed number in hindsight, `optimum` a plan made by somebody who knew the trace, `reactive` one by
/// somebody who saw no rise coming, and `without:season` the policy without one of its parts.
///
/// Example: tidegate simulate --generate flash-crowd --policy predictive,kpa,hpa,optimum --cold-start 60s
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recorded trace; see --format.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["generate", "replay"], conflicts_with = "generate")]
    trace: Option<PathBuf>,
    /// How it is written: csv (a time in seconds or a date on each line, and after a comma the seconds of work where they are known),
    /// azure-llm, or access-log.
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,
    /// Make a trace instead: constant, diurnal, burst, flash-crowd, ramp or on-off.
    #[arg(long, value_name = "SHAPE")]
    generate: Option<Shape>,
    /// Ask again what a node's policies were asked, and compare: a recording, or a folder of them
    /// (STATE_DIR/recordings/SERVICE).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "generate", "plot", "csv", "tune"])]
    replay: Option<PathBuf>,
    /// Requests a second of a made trace, in the mean.
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = positive)]
    rate: f64,
    /// Length of a made trace.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    length: Duration,
    /// Time that a request takes at a replica where the trace does not tell; in a made trace the mean.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    work: Duration,
    /// Who decides, separated by commas: predictive, concurrency (kpa), threshold, hpa, ray, skyserve, static:N, best-static, reactive,
    /// optimum, without:PART (predictive without least-squares, trend, season, horizon, spread, keeping, backlog or age).
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "predictive,kpa,hpa,ray,skyserve,optimum"
    )]
    policy: Vec<Contender>,
    /// Time from the launch of an instance until it is ready: the median.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    cold_start: Duration,
    /// Standard deviation of the logarithm of that time; 0 makes all starts alike.
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = spread)]
    cold_start_spread: f64,
    /// Requests that one replica takes at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Local replicas, which are always there and cost nothing.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    local: u32,
    /// Most replicas, local ones included.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_replicas: u32,
    /// A request that waits longer for a replica is late.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    slo_wait: Duration,
    /// What a late request costs, in the unit of --price; the policy predictive weighs it against the price of a replica. As much as
    /// twenty that are answered, unless given.
    #[arg(long, value_name = "AMOUNT", value_parser = not_negative)]
    late_request_cost: Option<f64>,
    /// What happens before is not scored.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    warmup: Duration,
    /// Price of an instance for an hour.
    #[arg(long, value_name = "AMOUNT", default_value_t = 1.0, value_parser = positive)]
    price: f64,
    /// An instance costs at least as much as this time does.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    minimum_billing: Duration,
    /// The share of launches that never get ready, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    launch_failures: f64,
    /// Instances that the provider has at a time; no limit unless given.
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
    /// A provider of instances, instead of the one that the options above describe; may be given several times. Words as in
    /// name=spot,price=0.3,cold-start=90s,spread=0.4,minimum-billing=60s,failures=0.05,capacity=4; name and price are needed.
    #[arg(long, value_name = "WORDS", value_parser = provider::parse)]
    provider: Vec<Provider>,
    /// Time between two samples.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    tick: Duration,
    /// Chooses one of all that may happen: a made trace, start times, failures.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Search each policy's parameters on the first half of the trace, and report on the second.
    #[arg(long)]
    tune: bool,
    /// Draw load, capacity, queue and spend over time; the file's name ends in .svg or .png.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// A list of objects.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values.
    #[arg(long)]
    csv: bool,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str);
        let found = Self::ALL.into_iter().find(|shape| shape.as_str() == text);
        found.ok_or_else(|| format!("there is no shape {text:?}; there are {}", names.join(", ")))
    }
}

/// One policy and what came of it.
struct Played {
    contender: Contender,
    /// The parameters that were found for it.
    tuned: Option<Tuned>,
    outcome: Outcome,
}

/// No trace, start or request is longer.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Between two samples; a node keeps five minutes of them.
const TICKS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(300);

/// What is simulated is kept in memory: two gigabytes of requests.
const MOST_REQUESTS: f64 = 5e7;

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}: write it as 60s or 24h"))?;
    if time <= LONGEST { Ok(time) } else { Err("it must be at most a year".to_owned()) }
}

fn number(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if value.is_finite() { Ok(value) } else { Err(format!("{text:?} is not a finite number")) }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("it must be above 0".to_owned()) })
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).and_then(|value| if value >= 0.0 { Ok(value) } else { Err("it must not be below 0".to_owned()) })
}

/// A standard deviation of a logarithm: at 3, one start in six takes twenty times the median.
fn spread(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| {
        if value <= 3.0 {
            Ok(value)
        } else {
            Err("it must be at most 3: it is no time, but of its logarithm".to_owned())
        }
    })
}

fn share(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| if value <= 1.0 { Ok(value) } else { Err("it must be at most 1".to_owned()) })
}

/// Pictures that are drawn, by how their files' names end.
const PICTURES: [&str; 2] = ["svg", "png"];

fn ends_in(file: &Path, end: &str) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(end))
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        if let Some(recordings) = &self.replay {
            return replay::run(recordings, self.json);
        }
        if let Err(problem) = self.check() {
            complain!("error: {problem}");
            return ExitCode::from(EXIT_USAGE);
        }
        let trace = match self.trace() {
            Ok(trace) => trace,
            Err(problem) => {
                complain!("error: {problem}");
                return ExitCode::from(EXIT_USAGE);
            }
        };
        if self.warmup >= trace.length() {
            let (warmup, length) = (self.warmup.as_secs_f64(), trace.length().as_secs_f64());
            complain!("error: --warmup of {warmup:.0} s leaves nothing of a trace of {length:.0} s");
            return ExitCode::from(EXIT_USAGE);
        }
        if self.tune && self.warmup * 2 >= trace.length() {
            complain!("error: --warmup leaves nothing of the first half of the trace, on which --tune searches");
            return ExitCode::from(EXIT_USAGE);
        }
        let played: Vec<_> = self.policy.iter().map(|contender| self.play(*contender, &trace)).collect();
        self.tell(&played, self.terms(&trace));
        match self.draw(&played, trace.length()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                complain!("error: {problem}");
                ExitCode::FAILURE
            }
        }
    }

    /// What no single option can know.
    fn check(&self) -> Result<(), String> {
        if self.local > self.max_replicas {
            let (local, most) = (self.local, self.max_replicas);
            return Err(format!("--local {local} is more than --max-replicas {most}, which includes them"));
        }
        if let Some(file) = self.plot.as_ref().filter(|file| !PICTURES.iter().any(|end| ends_in(file, end))) {
            return Err(format!("--plot {}: the file's name must end in .svg or .png", file.display()));
        }
        let names = |one: &Provider| self.provider.iter().filter(|other| other.name == one.name).count();
        if let Some(twice) = self.provider.iter().find(|one| names(one) > 1) {
            return Err(format!("--provider {} is there twice: give each a name of its own", twice.name));
        }
        if !TICKS.contains(&self.tick) {
            return Err("--tick must be from 50ms to 5m, as a node's is".to_owned());
        }
        if self.generate.is_some() && self.length.is_zero() {
            return Err("--length must be above 0".to_owned());
        }
        let requests = self.rate * self.length.as_secs_f64();
        if self.generate.is_some() && requests > MOST_REQUESTS {
            return Err(format!(
                "--rate and --length make {requests:.0} requests, and at most {MOST_REQUESTS:.0} are played: lower one of them"
            ));
        }
        if let Some(few) = self.policy.iter().find(|p| matches!(p, Contender::Static(n) if *n < self.local)) {
            return Err(format!("--policy {few} is fewer than --local {}, which are always there", self.local));
        }
        let too_many = self.policy.iter().find(|p| matches!(p, Contender::Static(n) if *n > self.max_replicas));
        too_many.map_or(Ok(()), |policy| {
            Err(format!("--policy {policy} is more than --max-replicas {}", self.max_replicas))
        })
    }

    fn trace(&self) -> Result<Trace, String> {
        let Some(path) = &self.trace else {
            let shape = self.generate.unwrap_or(Shape::Constant);
            let recipe = Recipe {
                shape,
                rate: self.rate,
                length: self.length,
                work: self.work,
                work_spread: 0.5,
                seed: self.seed,
            };
            return Ok(recipe.make());
        };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let reading =
            read::read(&text, self.format, self.work).map_err(|problem| format!("{}: {problem}", path.display()))?;
        if reading.out_of_order > 0 {
            complain!("{}: {} requests stood after a later one; sorted by time", path.display(), reading.out_of_order);
        }
        Ok(reading.trace)
    }

    fn world(&self) -> World {
        World {
            tick: self.tick,
            local: self.local,
            concurrency: self.concurrency,
            max_replicas: self.max_replicas,
            slo_wait: self.slo_wait,
            warmup: self.warmup,
            providers: if self.provider.is_empty() { vec![self.one_provider()] } else { self.provider.clone() },
            seed: self.seed,
        }
    }

    fn one_provider(&self) -> Provider {
        Provider {
            name: "cloud".to_owned(),
            price_per_hour: self.price,
            minimum_billing: self.minimum_billing,
            cold_start: ColdStart { median: self.cold_start, spread: self.cold_start_spread },
            failures: self.launch_failures,
            capacity: self.capacity.unwrap_or(u32::MAX),
        }
    }

    /// Of the cheapest provider.
    fn least_price(&self) -> f64 {
        self.provider.iter().map(|provider| provider.price_per_hour).min_by(f64::total_cmp).unwrap_or(self.price)
    }

    fn play(&self, contender: Contender, trace: &Trace) -> Played {
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg:20} [{bar:40}] {percent:>3} %") {
            bar.set_style(style);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a thousand")]
        let mut progress = |share: f64| bar.set_position((share * 1000.0) as u64);
        let (mut world, mut tuned) = (self.world(), Tuned::defaults(contender, &self.world()));
        if self.tune {
            bar.set_message(format!("{contender}, tuning"));
            let half = trace.length() / 2;
            let first = trace.part(Duration::ZERO, half);
            tuned = tune::best(contender, &first, &world, self.terms(&first), &mut progress);
            // What it was chosen on is not scored.
            world.warmup = half;
        }
        bar.set_message(contender.to_string());
        let outcome = contest::run_with(contender, tuned, trace, &world, self.terms(trace), &mut progress);
        bar.finish_and_clear();
        Played { contender, tuned: tuned.filter(|_| self.tune), outcome }
    }

    fn draw(&self, played: &[Played], length: Duration) -> Result<(), String> {
        let Some(file) = &self.plot else { return Ok(()) };
        let play = |one: &Played| Play { name: one.contender.to_string(), points: one.outcome.course.points() };
        let plays: Vec<_> = played.iter().map(play).collect();
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let picture = if ends_in(file, "png") {
            plot::png(&plays, length)
        } else {
            plot::svg(&plays, length).map(String::into_bytes)
        };
        std::fs::write(file, picture.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }

    fn terms(&self, trace: &Trace) -> Terms {
        let requests = trace.requests();
        let work: Duration = requests.iter().map(|request| request.work).sum();
        let mean_work = work / u32::try_from(requests.len()).unwrap_or(u32::MAX).max(1);
        let told = self.late_request_cost.map(|cost| predictive::late_price(cost, self.least_price()));
        let late_price = told.unwrap_or(mean_work * predictive::LATE_PRICE);
        Terms { late_price, mean_work }
    }

    fn tell(&self, played: &[Played], terms: Terms) {
        if self.json {
            let objects: Vec<_> = played.iter().map(|one| self.object(one, terms)).collect();
            return say!("{}", Value::Array(objects));
        }
        let rows: Vec<Vec<String>> = played.iter().map(|one| self.row(one, terms)).collect();
        if self.csv {
            say!("{}", COLUMNS.join(","));
            rows.iter().for_each(|row| say!("{}", row.join(",")));
        } else {
            let header: Vec<_> = COLUMNS.iter().map(|column| column.to_uppercase()).collect();
            say!("{}", table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows));
        }
    }

    fn object(&self, Played { contender, tuned, outcome }: &Played, terms: Terms) -> Value {
        json!({
            "policy": contender.to_string(),
            "parameters": tuned.map(|tuned| tuned.to_string()),
            "requests": outcome.requests,
            "violations_pct": violations(outcome),
            "wait_p99_s": outcome.wait_p99.as_secs_f64(),
            "cloud_hours": hours(outcome),
            "spend": outcome.spend,
            "loss": self.loss(outcome, terms),
            "peak_replicas": outcome.peak_replicas,
            "launches": outcome.launches,
            "reversals": outcome.reversals,
        })
    }

    fn row(&self, Played { contender, tuned, outcome }: &Played, terms: Terms) -> Vec<String> {
        let parameters = tuned.map_or(String::new(), |tuned| format!(" ({tuned})"));
        vec![
            if self.csv { contender.to_string() } else { format!("{contender}{parameters}") },
            outcome.requests.to_string(),
            format!("{:.3}", violations(outcome)),
            format!("{:.3}", outcome.wait_p99.as_secs_f64()),
            format!("{:.3}", hours(outcome)),
            format!("{:.2}", outcome.spend),
            format!("{:.2}", self.loss(outcome, terms)),
            outcome.peak_replicas.to_string(),
            outcome.launches.to_string(),
            outcome.reversals.to_string(),
        ]
    }

    /// What was spent, and the late requests at their cost.
    fn loss(&self, outcome: &Outcome, terms: Terms) -> f64 {
        outcome.spend + count(outcome.late) * terms.late_price.as_secs_f64() / 3600.0 * self.least_price()
    }
}

const COLUMNS: [&str; 10] = [
    "policy",
    "requests",
    "violations_pct",
    "wait_p99_s",
    "cloud_hours",
    "spend",
    "loss",
    "peak_replicas",
    "launches",
    "reversals",
];

fn violations(outcome: &Outcome) -> f64 {
    if outcome.requests == 0 { 0.0 } else { count(outcome.late) / count(outcome.requests) * 100.0 }
}

fn hours(outcome: &Outcome) -> f64 {
    outcome.cloud_time.as_secs_f64() / 3600.0
}

#[expect(clippy::cast_precision_loss, reason = "requests are far fewer than 2^52")]
fn count(requests: u64) -> f64 {
    requests as f64
}
