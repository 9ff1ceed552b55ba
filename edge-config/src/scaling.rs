//! `[service.NAME.scaling]`: what is measured, where the threshold lies, how fast replicas come and go.

use std::time::Duration;

use crate::budget::AMOUNT;
use crate::node::Node;
use crate::section::Section;
use crate::service::PATH;
use crate::shape::{Choice, Count, Flag, Input, Least, Number, OneOrMore, Parsed, Shape, Span};

/// `[service.NAME.scaling]`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Scaling {
    /// Which policy decides; of several, the one that wants most replicas. Default `predictive`; where keys are set that others alone use,
    /// those.
    pub policies: Vec<ScalingPolicy>,
    /// What is measured, R(t). Default `utilisation`.
    pub metric: Metric,
    /// Where [`Metric::Custom`] comes from.
    pub custom: Option<CustomMetric>,
    /// T, in the metric's unit: fractions of 1, requests a second, or seconds.
    ///
    /// Default 0.80 for fractions; the others have none.
    pub threshold: f64,
    /// Width of the band around T in which nothing happens, in the metric's unit. Default an eighth of T, 0.10 at 0.80.
    pub band: f64,
    /// S, in replicas a minute. Default 2.
    pub scale_factor: f64,
    /// Δt, the least time between two decisions. Default 1 min.
    pub interval: Duration,
    /// Replicas that run without any load; 0 lets the service go to sleep. Default 1.
    pub min_replicas: u32,
    /// The metric is averaged over this. Default one tick, at least 1 s.
    pub window: Duration,
    /// What an answer that comes too late costs, in the budget's currency.
    pub late_request_cost: Option<f64>,
    /// A request that waits longer for a replica comes too late. Of `predictive`. Default 1 s.
    pub late_after: Duration,
    /// The share of what a replica takes at once that it is to have. Of `concurrency`. Default 0.70.
    pub target_utilisation: f64,
    /// The greatest wish of so long a time counts. Of `concurrency`. Default none.
    pub scale_down_delay: Duration,
}

/// Which policy decides how many replicas are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScalingPolicy {
    /// More above a threshold, fewer below.
    Threshold,
    /// Requests per replica, as Knative's autoscaler.
    Concurrency,
    /// What costs least, by a forecast.
    Predictive,
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// In flight and queued over what the ready replicas take at once; over 1 when requests wait.
    Utilisation,
    /// CPU in use, of all CPUs.
    Cpu,
    /// Memory in use.
    Memory,
    /// Bytes a second over `node.link_speed_mbit`.
    Network,
    /// Requests a second that arrive for the service.
    RequestRate,
    /// 95th percentile of the whole time that a request takes, in seconds.
    LatencyP95,
    /// A number that is measured elsewhere; see [`CustomMetric`].
    Custom,
}

/// `metric = { topic = "line1/queue", pointer = "/depth" }`: a number that is measured elsewhere.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CustomMetric {
    /// Who tells it.
    pub source: MetricSource,
    /// Where it stands in the JSON that is told, as in RFC 6901; empty for a number that stands alone. Default empty.
    pub pointer: String,
    /// What was told longer ago is not known any more. Default 10 s.
    pub max_age: Duration,
    /// Whether it only grows, so that its growth a second is what is measured. Default no.
    pub counter: bool,
    /// Whether it is of all replicas together, and to be shared out among those that are ready. Default no.
    pub per_replica: bool,
}

/// Who tells a custom metric.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricSource {
    /// Whoever publishes on this topic at the node's own broker.
    Topic(String),
    /// Each replica, when it is asked for this path; the mean of all counts.
    Path(String),
}

const POLICY: OneOrMore<ScalingPolicy> = OneOrMore(Choice {
    words: &[
        ("threshold", ScalingPolicy::Threshold),
        ("concurrency", ScalingPolicy::Concurrency),
        ("predictive", ScalingPolicy::Predictive),
    ],
    later: &[],
});

pub(crate) const METRIC: Choice<Metric> = Choice {
    words: &[
        ("utilisation", Metric::Utilisation),
        ("cpu", Metric::Cpu),
        ("memory", Metric::Memory),
        ("network", Metric::Network),
        ("request_rate", Metric::RequestRate),
        ("latency_p95", Metric::LatencyP95),
    ],
    later: &[],
};

/// From one replica a day to more than any machine starts.
const SCALE_FACTOR: Number = Number { least: Least::Above(0.0), to: 10_000.0, unit: "replicas a minute" };

/// Decisions more than a day apart do not follow any load.
const INTERVAL: Span = Span(Duration::from_millis(50)..=Duration::from_secs(86_400));

/// A node keeps five minutes of samples; what is averaged over more is history, not load.
const WINDOW: Span = Span(Duration::from_millis(50)..=Duration::from_secs(300));

/// A wait that nobody notices to one that everybody gives up.
const LATE_AFTER: Span = Span(Duration::from_millis(1)..=Duration::from_secs(3600));

/// A replica that is to have nothing would never be enough.
const TARGET: Number = Number { least: Least::Above(0.0), to: 1.0, unit: "a fraction (0.70 is 70 %)" };

/// As long as Knative takes it.
const SCALE_DOWN_DELAY: Span = Span(Duration::ZERO..=Duration::from_secs(3600));

pub(crate) fn read(section: &mut Section<'_>, node: &Node) -> Scaling {
    let policies = section.get("policy", &POLICY, implied(section));
    let late_after =
        of_policy(section, &policies, ScalingPolicy::Predictive, "late_after", &LATE_AFTER, Duration::from_secs(1));
    let target_utilisation =
        of_policy(section, &policies, ScalingPolicy::Concurrency, "target_utilisation", &TARGET, 0.70);
    let scale_down_delay = of_policy(
        section,
        &policies,
        ScalingPolicy::Concurrency,
        "scale_down_delay",
        &SCALE_DOWN_DELAY,
        Duration::ZERO,
    );
    let custom =
        (policies.contains(&ScalingPolicy::Threshold) && section.is_table("metric")).then(|| read_custom(section));
    let (metric, threshold) = match &custom {
        Some(_) => (Metric::Custom, threshold(section, Metric::Custom)),
        None => metric_and_threshold(section, &policies),
    };
    let band = Quantity { metric, least: Least::From(0.0) };
    let threshold_policy = ScalingPolicy::Threshold;
    let scaling = Scaling {
        policies: policies.clone(),
        metric,
        custom: custom.flatten(),
        threshold,
        band: of_policy(section, &policies, threshold_policy, "band", &band, metric.band_for(threshold)),
        scale_factor: of_policy(section, &policies, threshold_policy, "scale_factor", &SCALE_FACTOR, 2.0),
        interval: of_policy(
            section,
            &policies,
            threshold_policy,
            "interval",
            &INTERVAL,
            Duration::from_secs(60).max(node.tick),
        ),
        min_replicas: section.get("min_replicas", &Count(0..=10_000), 1),
        window: section.get("window", &WINDOW, Duration::from_secs(1).max(node.tick)),
        late_request_cost: section.optional("late_request_cost", &AMOUNT),
        late_after,
        target_utilisation,
        scale_down_delay,
    };
    check_band(section, &scaling);
    check_times(section, &scaling, node);
    if metric == Metric::Network && node.link_speed_mbit.is_none() && section.sound(&["metric"]) {
        section.refuse("metric", "needs node.link_speed_mbit, to know what full means");
    }
    scaling
}

/// The policy that is meant by who names none: who sets a threshold has chosen.
fn implied(section: &Section<'_>) -> Vec<ScalingPolicy> {
    let is_set = |keys: &[&str]| keys.iter().any(|key| section.has(key));
    let users = [
        (ScalingPolicy::Threshold, &["metric", "threshold", "band", "scale_factor", "interval"][..]),
        (ScalingPolicy::Concurrency, &["target_utilisation", "scale_down_delay"]),
        (ScalingPolicy::Predictive, &["late_after", "late_request_cost"]),
    ];
    // One of them: whoever wants several together has to say so.
    let chosen = users.into_iter().find(|(_, keys)| is_set(keys));
    vec![chosen.map_or(ScalingPolicy::Predictive, |(policy, _)| policy)]
}

/// A key that one policy alone uses. Set for another, it is refused: whoever set it expects that it does something.
fn of_policy<S: Shape>(
    section: &mut Section<'_>,
    policies: &[ScalingPolicy],
    user: ScalingPolicy,
    key: &'static str,
    shape: &S,
    default: S::Out,
) -> S::Out {
    // Which policy was meant cannot be known where its word is wrong.
    if policies.contains(&user) || !section.sound(&["policy"]) {
        return section.get(key, shape, default);
    }
    section.foreign(key, user.advice());
    default
}

/// `None` means that a problem was told.
fn read_custom(section: &mut Section<'_>) -> Option<CustomMetric> {
    let mut table = section.section("metric");
    let topic = table.optional("topic", &TOPIC);
    let path = table.optional("path", &PATH);
    let custom = CustomMetric {
        pointer: table.get("pointer", &POINTER, String::new()),
        max_age: table.get("max_age", &MAX_AGE, Duration::from_secs(10)),
        counter: table.get("counter", &Flag, false),
        per_replica: table.get("per_replica", &Flag, false),
        source: match (topic, path) {
            (Some(topic), None) => MetricSource::Topic(topic),
            (None, Some(path)) => MetricSource::Path(path),
            (both, _) => {
                if table.sound(&["topic", "path"]) {
                    table.refuse_table(match both {
                        Some(_) => "has a topic and a path; one of them tells the number",
                        None => "needs a topic, as in { topic = \"line1/queue\" }, or a path that each replica answers",
                    });
                }
                table.finish();
                return None;
            }
        },
    };
    if custom.per_replica && matches!(custom.source, MetricSource::Path(_)) {
        table.refuse("per_replica", "is for a topic: what replicas answer is of each of them already");
    }
    table.finish();
    Some(custom)
}

/// A topic that is heard at the node's broker: one, and none of the node's own, which are no input.
const TOPIC: Parsed<String> = Parsed {
    allowed: "an MQTT topic as in \"line1/queue\"",
    parse: |text| {
        let is_topic = !text.is_empty() && text.len() <= 200 && !text.contains(['\0', '\u{feff}']);
        if !is_topic {
            Err("must be an MQTT topic of at most 200 bytes, as in \"line1/queue\"".to_owned())
        } else if text.contains(['+', '#']) {
            Err("must be one topic: with + or # several would tell the same number".to_owned())
        } else if text.starts_with('$') || text.starts_with("tidegate/") || text.starts_with("tidegate-json/") {
            Err("must be a topic of your own: what stands below $, tidegate/ and tidegate-json/ is no input".to_owned())
        } else {
            Ok(text.to_owned())
        }
    },
    show: String::clone,
    secret: false,
};

const POINTER: Parsed<String> = Parsed {
    allowed: "a JSON pointer (RFC 6901) as in \"/depth\", or \"\" for a number that stands alone",
    parse: |text| match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("must begin with /, as in \"/{text}\"")),
    },
    show: String::clone,
    secret: false,
};

/// What is younger than a message takes to arrive is none, what is older than a day says nothing of now.
const MAX_AGE: Span = Span(Duration::from_secs(1)..=Duration::from_secs(86_400));

fn metric_and_threshold(section: &mut Section<'_>, policies: &[ScalingPolicy]) -> (Metric, f64) {
    let metric = of_policy(section, policies, ScalingPolicy::Threshold, "metric", &METRIC, Metric::Utilisation);
    if !policies.contains(&ScalingPolicy::Threshold) && section.sound(&["policy"]) {
        section.foreign("threshold", ScalingPolicy::Threshold.advice());
        return (metric, 0.80);
    }
    (metric, threshold(section, metric))
}

impl ScalingPolicy {
    /// What to do with a key of this policy where another was chosen.
    fn advice(self) -> &'static str {
        match self {
            Self::Threshold => "is for policy = \"threshold\"; remove it, or choose that policy",
            Self::Concurrency => "is for policy = \"concurrency\"; remove it, or choose that policy",
            Self::Predictive => "is for policy = \"predictive\"; remove it, or choose that policy",
        }
    }
}

fn threshold(section: &mut Section<'_>, metric: Metric) -> f64 {
    let shape = Quantity { metric, least: Least::Above(0.0) };
    if !section.sound(&["metric"]) {
        // In which unit the threshold stands cannot be known, so nothing can be wrong with it.
        section.leave(&["threshold", "band"]);
        return 0.80;
    }
    match metric.is_fraction() {
        true => section.get("threshold", &shape, 0.80),
        false => section.required("threshold", &shape).unwrap_or(1.0),
    }
}

/// Slack for sums of decimals: 0.95 and half of 0.10 make 1, also in binary.
const TOLERANCE: f64 = 1e-9;

/// The band must leave an edge on both sides that the metric can reach.
fn check_band(section: &mut Section<'_>, scaling: &Scaling) {
    if !section.sound(&["threshold", "band"]) {
        return;
    }
    let Scaling { metric, threshold, band, .. } = *scaling;
    let show = |value: f64| Quantity { metric, least: Least::From(0.0) }.show(&value);
    if metric.is_share() && threshold >= 1.0 {
        section.refuse("threshold", "must be under 1.0, since nothing ever exceeds the whole");
    } else if band >= 2.0 * threshold {
        let limit = show(2.0 * threshold);
        section.refuse("band", format!("must be under {limit}, twice the threshold, or nothing is ever taken down"));
    } else if metric.is_share() && threshold + band / 2.0 > 1.0 + TOLERANCE {
        section.refuse("band", format!("must be smaller: with threshold = {threshold} its upper edge is beyond 1.0"));
    }
}

fn check_times(section: &mut Section<'_>, scaling: &Scaling, node: &Node) {
    let tick = Span::text(node.tick);
    for (key, time) in [("interval", scaling.interval), ("window", scaling.window)] {
        if section.sound(&[key]) && time < node.tick {
            section.refuse(key, format!("must be at least one tick (node.tick is {tick:?})"));
        }
    }
}

impl Metric {
    fn is_fraction(self) -> bool {
        !matches!(self, Self::RequestRate | Self::LatencyP95 | Self::Custom)
    }

    /// Shares of the machine end at the whole; requests, however, can wait.
    fn is_share(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Network)
    }

    /// The highest threshold or band.
    fn most(self) -> f64 {
        match self {
            Self::Cpu | Self::Memory | Self::Network => 1.0,
            Self::Utilisation => 10.0,
            Self::RequestRate => 1e6,
            Self::Custom => 1e12,
            Self::LatencyP95 => 600.0,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::RequestRate => "requests a second",
            Self::Custom => "a number in the metric's own unit",
            _ => "a fraction (0.80 is 80 %)",
        }
    }

    /// 0.10 at the usual 0.80 and in proportion elsewhere, but never beyond the whole.
    fn band_for(self, threshold: f64) -> f64 {
        let band = threshold / 8.0;
        if self.is_share() { band.min(2.0 * (1.0 - threshold)).max(0.0) } else { band }
    }
}

/// A threshold or a band in its metric's unit: a number, or a duration for a latency.
struct Quantity {
    metric: Metric,
    least: Least,
}

impl Quantity {
    fn number(&self) -> Number {
        Number { least: self.least, to: self.metric.most(), unit: self.metric.unit() }
    }

    fn span(&self) -> Span {
        let least = match self.least {
            Least::From(_) => Duration::ZERO,
            Least::Above(_) => Duration::from_millis(1),
        };
        Span(least..=Duration::from_secs_f64(self.metric.most()))
    }
}

impl Shape for Quantity {
    type Out = f64;

    fn allowed(&self) -> String {
        match self.metric {
            Metric::LatencyP95 => self.span().allowed(),
            _ => self.number().allowed(),
        }
    }

    fn schema(&self) -> serde_json::Map<String, serde_json::Value> {
        match self.metric {
            Metric::LatencyP95 => self.span().schema(),
            _ => self.number().schema(),
        }
    }

    fn read(&self, input: &Input<'_>) -> Result<f64, String> {
        match self.metric {
            Metric::LatencyP95 => self.span().read(input).map(|span| span.as_secs_f64()),
            _ => self.number().read(input),
        }
    }

    fn show(&self, value: &f64) -> String {
        match self.metric {
            // To the microsecond: an eighth of a latency may have more digits than anyone measures.
            Metric::LatencyP95 => {
                let micros = Duration::from_secs_f64(*value).as_micros();
                self.span().show(&Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
            }
            _ => self.number().show(value),
        }
    }
}
