//! What load is to be expected, and how sure that is.
//!
//! Load is offered load: arrivals a second times the time that a request takes, which is how many requests are at replicas when none
//! has to wait. Time is cut into slots of four seconds. Several simple forecasters look ahead over nine horizons from one slot to
//! twenty minutes; for each horizon, and for each height of the load from which they look ahead, the one counts that has erred least.
//! How it has erred is kept too, as a histogram over the height that it forecast, older errors fading: a forecast is that
//! histogram around its value, not the value alone. So a burst that comes again and again is expected in the share of time that it has
//! had, and one that ends soon is expected to end.
//!
//! Everything is in logarithms of 1 + load, so that an error of one request matters when there is one and not when there are a hundred.

use std::f64::consts::TAU;
use std::sync::LazyLock;
use std::time::Duration;

mod excursions;
mod least_squares;
mod season;
mod stays;

use super::archive::{Archive, archived};
use excursions::Excursions;
pub use excursions::Lengths;
use least_squares::{INPUTS, LeastSquares};
use season::Season;
use stays::{Stay, Stays};

/// The unit of time here.
pub const SLOT: Duration = Duration::from_secs(4);

/// How far ahead is looked, in slots.
const AHEAD: [u16; HORIZONS] = [1, 3, 5, 10, 20, 40, 80, 160, 320];
/// How many horizons there are.
pub const HORIZONS: usize = 9;
/// Origins of forecasts whose outcome is not known yet.
const PENDING: usize = 321;

/// Heights of load, half a doubling each: up to 16,000 requests at a time.
const HEIGHTS: usize = 28;
/// Errors, a quarter of a doubling each, from a 64th of the forecast to 64 times as much.
const ERRORS: usize = 49;
/// An error's weight is halved after so many of the same height: some seven hours of them.
const FADING: f32 = 6000.0;
/// What was seen at the neighbouring height counts so much, and at the one beyond so much of that.
const NEIGHBOUR: f32 = 0.3;
/// What was seen at other heights counts no more than so many slots of the same one.
const MOST_OF_OTHERS: f32 = 100.0;
/// Errors of less than one and a half doublings.
const SMALL_ERRORS: std::ops::Range<usize> = 19..30;
/// A height is so many errors high.
const BINS_A_HEIGHT: isize = 2;
/// Before anything was seen, errors are assumed as if so many had been.
const ASSUMED: f64 = 2.0;

/// Time constants of the means of the last, middle and slow past.
const LAST: f64 = 6.0;
const MIDDLE: f64 = 60.0;
const SLOW: f64 = 600.0;
/// Of the level that has a trend.
const LEVEL: f64 = 30.0;
/// The trend is believed a hundredth less with each slot further ahead.
const DAMPING: f64 = 0.99;

/// A way of looking ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Forecaster {
    /// It stays as it just was.
    #[default]
    Last,
    /// It goes on as it was over the last minute.
    Middle,
    /// It goes on as it was over the last ten minutes.
    Slow,
    /// Exponential smoothing with a damped trend.
    Trend,
    /// It comes as it came one period ago.
    Season,
    /// Recursive least squares on the others and the time of day.
    LeastSquares,
}

impl Forecaster {
    const ALL: [Self; 6] = [Self::Last, Self::Middle, Self::Slow, Self::Trend, Self::Season, Self::LeastSquares];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last value",
            Self::Middle => "mean of a minute",
            Self::Slow => "mean of ten minutes",
            Self::Trend => "trend",
            Self::Season => "season",
            Self::LeastSquares => "least squares",
        }
    }
}

const FORECASTERS: usize = Forecaster::ALL.len();

/// What is known at one moment, from which all forecasters look ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Origin {
    slot: u32,
    last: f32,
    middle: f32,
    slow: f32,
    level: f32,
    trend: f32,
    /// Logarithms of the first three, since each horizon needs them.
    logs: [f32; 3],
}

/// One horizon's track record.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    /// Mean absolute error of each forecaster, by the height from which it looked ahead.
    errors: [[f32; FORECASTERS]; HEIGHTS],
    /// How many slots of that height were learnt from, older ones fading.
    seen: [f32; HEIGHTS],
    /// Errors of the forecaster that counted, by the height that it forecast, and how many there are.
    spread: [[f32; ERRORS]; HEIGHTS],
    spread_of: [f32; HEIGHTS],
    least_squares: LeastSquares,
}

/// Who is believed at each horizon, and how long the load has been at its level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bests {
    by: [Forecaster; HORIZONS],
    stay: Option<Stay>,
}

impl Bests {
    /// The same for who does not look at how long that is.
    pub fn of_any_age(self) -> Self {
        Self { stay: None, ..self }
    }
}

/// What is forecast for one slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The nearest horizon.
    horizon: usize,
    /// Whose forecast it is.
    by: Forecaster,
    value: f64,
}

impl View {
    /// What would be to be expected if forecasts did not err.
    pub fn for_certain(self) -> Outlook {
        let Self { horizon, by, value } = self;
        Outlook { horizon, by, value, mean: value, outcomes: vec![(value, 1.0)] }
    }
}

/// What is to be expected of one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// The nearest horizon.
    horizon: usize,
    /// Whose forecast it is.
    pub by: Forecaster,
    /// What it forecast.
    pub value: f64,
    /// The mean of what is to be expected.
    pub mean: f64,
    /// Loads and their probabilities, which sum to one.
    pub outcomes: Vec<(f64, f64)>,
}

/// What was learnt of one service's load.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Slots so far, and those of them of which something is known.
    slots: u32,
    known: u32,
    /// Origins before this slot lie before a gap, and nothing follows from what came after it.
    from: u32,
    now: Origin,
    pending: Vec<Origin>,
    season: Season,
    excursions: Excursions,
    stays: Stays,
    records: Vec<Record>,
}

archived!(Origin { slot, last, middle, slow, level, trend, logs });
archived!(Record { errors, seen, spread, spread_of, least_squares });
archived!(Forecast { slots, known, from, now, pending, season, excursions, stays, records });

impl Archive for Forecaster {
    fn write(&self, to: &mut Vec<u8>) {
        Self::ALL.iter().position(|one| one == self).unwrap_or(0).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Self::ALL.get(usize::read(from)?).copied()
    }
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            slots: 0,
            known: 0,
            from: 0,
            now: Origin::default(),
            pending: vec![Origin::default(); PENDING],
            season: Season::default(),
            excursions: Excursions::default(),
            stays: Stays::default(),
            records: vec![Record::default(); HORIZONS],
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            errors: [[0.0; FORECASTERS]; HEIGHTS],
            seen: [0.0; HEIGHTS],
            spread: [[0.0; ERRORS]; HEIGHTS],
            spread_of: [0.0; HEIGHTS],
            least_squares: LeastSquares::default(),
        }
    }
}

impl Forecast {
    /// How far ahead a horizon is.
    pub fn ahead(horizon: usize) -> Duration {
        SLOT * u32::from(AHEAD[horizon.min(HORIZONS - 1)])
    }

    /// The load as it just was.
    pub fn last(&self) -> f64 {
        f64::from(self.now.last)
    }

    /// The period that was found, where one was.
    pub fn period(&self) -> Option<Duration> {
        self.season.period().map(|slots| SLOT * slots)
    }

    /// How long the load stays above each height.
    pub fn excursions(&self) -> Lengths {
        self.excursions.lengths()
    }

    /// Slots that were learnt from.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Those of them of which something is known.
    pub fn known(&self) -> u32 {
        self.known
    }

    /// Takes in the mean load of the next slot. A load that is no number, or a negative one, is one that is not known.
    pub fn learn(&mut self, load: f64) {
        self.learn_without(load, &[]);
    }

    /// The same where some forecasters do not take part.
    pub fn learn_without(&mut self, load: f64, without: &[Forecaster]) {
        if !load.is_finite() || load < 0.0 {
            return self.skip(1);
        }
        let missed = self.missed();
        self.season.push(load);
        self.slots += 1;
        self.move_on(load, missed);
        let recent = self.season.mean_of_last(excursions::WIDTH);
        self.excursions.learn(recent);
        self.stays.learn(recent);
        let came = [1, 3].map(|slots| log(self.season.mean_of_last(slots)));
        let day = time_of_day(self.slots);
        for horizon in 0..HORIZONS {
            self.judge(horizon, came, day, without);
        }
        self.pending[self.slots as usize % PENDING] = self.now;
        if !without.contains(&Forecaster::Season) {
            self.season.search(self.slots);
        }
    }

    /// So many slots passed of which nothing is known. What came before them says nothing of what comes after, but the season and the
    /// time of day go on.
    pub fn skip(&mut self, slots: u32) {
        self.season.skip(slots);
        self.excursions.interrupt();
        self.stays.interrupt();
        self.slots = self.slots.saturating_add(slots);
        self.from = self.slots + 1;
    }

    /// Goes on after the process was not there: for how long, where that is known.
    pub fn resume(&mut self, away: Option<Duration>) {
        match away {
            Some(away) => self.skip(u32::try_from(away.as_millis() / SLOT.as_millis()).unwrap_or(u32::MAX)),
            None => {
                // As if it had been a day: nothing that fades is left of what was, and a slot has the time of day that it would have had.
                self.skip(u32::try_from(season::DAY).unwrap_or(u32::MAX));
            }
        }
    }

    /// Whether what was read is as long as it has to be.
    pub(super) fn is_sound(&self) -> bool {
        let counts = self.pending.len() == PENDING && self.records.len() == HORIZONS;
        counts && self.known <= self.slots && self.season.is_at(self.slots) && self.stays.is_sound()
    }

    /// The load as it was before what was skipped just now, where that is no longer than this.
    pub fn last_before(&self, gap: Duration) -> Option<f64> {
        (SLOT * self.missed() <= gap).then(|| self.last())
    }

    /// How many slots just now were skipped.
    fn missed(&self) -> u32 {
        if self.from > self.slots { self.slots - self.now.slot } else { 0 }
    }

    /// What was known fades with the time since then.
    fn move_on(&mut self, load: f64, missed: u32) {
        let elapsed = SLOT.as_secs_f64() * f64::from(missed + 1);
        let known = f64::from(self.known);
        self.known = self.known.saturating_add(1);
        let share = |time_constant: f64| -> f64 { (1.0 - (-elapsed / time_constant).exp()).max(1.0 / (known + 1.0)) };
        let Origin { last, middle, slow, level, trend, .. } = self.now;
        let toward =
            |mean: f32, time_constant: f64| narrow(f64::from(mean) + share(time_constant) * (load - f64::from(mean)));
        let expected = f64::from(level) + f64::from(trend);
        let next_level = expected + share(LEVEL) * (load - expected);
        let gain = 0.05 * share(LEVEL).sqrt();
        let next_trend = f64::from(trend) + gain * (next_level - f64::from(level) - f64::from(trend));
        let means = [toward(last, LAST), toward(middle, MIDDLE), toward(slow, SLOW)];
        let [last, middle, slow] = means;
        self.now = Origin {
            slot: self.slots,
            last,
            middle,
            slow,
            level: narrow(next_level),
            trend: narrow(next_trend),
            logs: means.map(|mean| narrow(log(f64::from(mean)))),
        };
    }

    /// Compares what was forecast for now, this time of day, with what came in the last slot and the last three, as logarithms.
    fn judge(&mut self, horizon: usize, came: [f64; 2], day: [f64; 2], without: &[Forecaster]) {
        let ahead = u32::from(AHEAD[horizon]);
        let came = if ahead < 3 { came[0] } else { came[1] };
        if self.slots <= ahead + 2 || self.slots - ahead < self.from {
            return;
        }
        let origin = self.pending[(self.slots - ahead) as usize % PENDING];
        let season = self.season.at(origin.slot, ahead).map(log);
        let inputs = origin.inputs(day, season);
        let [_, last, middle, slow, ..] = inputs;
        let forecasts = Forecaster::ALL.map(|by| match by {
            Forecaster::Last => last,
            Forecaster::Middle => middle,
            Forecaster::Slow => slow,
            Forecaster::Trend => log(origin.with_trend(TREND_STEPS[horizon])),
            Forecaster::Season => season.unwrap_or(last),
            Forecaster::LeastSquares => self.learnt(horizon, &inputs),
        });
        let from = height_of_log(last);
        let record = &mut self.records[horizon];
        let share = (1.0 / (record.seen[from] + 1.0)).max(0.003);
        for (error, forecast) in record.errors[from].iter_mut().zip(forecasts) {
            *error += share * (narrow((came - forecast).abs()) - *error);
        }
        let best = record.best(from, without) as usize;
        let keep = 0.5_f32.powf(1.0 / FADING);
        let height = height_of_log(forecasts[best]);
        let spread = &mut record.spread[height];
        spread.iter_mut().for_each(|weight| *weight *= keep);
        spread[error_bin(came - forecasts[best])] += 1.0;
        record.spread_of[height] = record.spread_of[height] * keep + 1.0;
        record.seen[from] = record.seen[from] * keep + 1.0;
        record.least_squares.learn(&inputs, came);
    }

    /// What a forecaster says of a slot so far ahead.
    fn forecast(&self, by: Forecaster, horizon: usize, ahead: u16, origin: &Origin) -> f64 {
        match by {
            Forecaster::Last => f64::from(origin.last),
            Forecaster::Middle => f64::from(origin.middle),
            Forecaster::Slow => f64::from(origin.slow),
            Forecaster::Trend => origin.with_trend(trend_steps(ahead)),
            Forecaster::Season => {
                self.season.at(origin.slot, u32::from(ahead)).unwrap_or_else(|| f64::from(origin.last))
            }
            Forecaster::LeastSquares => {
                let season = self.season.at(origin.slot, u32::from(ahead)).map(log);
                let day = time_of_day(origin.slot.saturating_add(u32::from(ahead)));
                load(self.learnt(horizon, &origin.inputs(day, season)))
            }
        }
    }

    /// What the one that learns says of these, as a logarithm.
    fn learnt(&self, horizon: usize, inputs: &[f64; INPUTS]) -> f64 {
        self.records[horizon].least_squares.estimate(inputs).clamp(0.0, 14.0)
    }

    /// Who has erred least at each horizon, from the height at which the load is, but for those who do not take part.
    pub fn bests(&self, without: &[Forecaster]) -> Bests {
        let from = height(self.last());
        let by = std::array::from_fn(|horizon| self.records[horizon].best(from, without));
        Bests { by, stay: self.stays.stay() }
    }

    /// What is forecast for a slot so far ahead, by who has erred least at the nearest horizon.
    pub fn view(&self, bests: &Bests, ahead: u32) -> View {
        let ahead = u16::try_from(ahead).unwrap_or(u16::MAX).max(1);
        let horizon = horizon_of(ahead);
        let by = bests.by[horizon];
        View { horizon, by, value: self.forecast(by, horizon, ahead, &self.now) }
    }

    /// What is to be expected at a horizon.
    pub fn outlook(&self, horizon: usize) -> Outlook {
        let bests = self.bests(&[]);
        self.outlook_of(self.view(&bests, u32::from(AHEAD[horizon])), &bests)
    }

    /// What is to be expected where this is forecast.
    pub fn outlook_of(&self, view: View, bests: &Bests) -> Outlook {
        let View { horizon, by, value } = view;
        let weights = self.records[horizon].weights(height(value), horizon);
        let total: f64 = weights.iter().sum();
        let per_total = 1.0 / total;
        let odds = ERROR_RATIOS.iter().zip(weights).map(|(ratio, weight)| (ratio, weight * per_total));
        let likely = odds.filter(|(_, probability)| *probability > 1e-5);
        let with_error = |ratio: &f64| ((1.0 + value) * ratio - 1.0).max(0.0);
        let mut outcomes = Vec::with_capacity(ERRORS);
        outcomes.extend(likely.map(|(ratio, probability)| (with_error(ratio), probability)));
        if let Some(stay) = &bests.stay {
            let odds = stay.odds(AHEAD[horizon]);
            outcomes.iter_mut().filter(|(load, _)| stay.is_near(*load)).for_each(|(_, weight)| *weight *= odds);
        }
        let kept: f64 = outcomes.iter().map(|(_, probability)| probability).sum();
        outcomes.iter_mut().for_each(|(_, probability)| *probability /= kept);
        let mean = outcomes.iter().map(|(load, probability)| load * probability).sum();
        Outlook { horizon, by, value, mean, outcomes }
    }

    /// The same at the horizon that is nearest to so far ahead.
    pub fn error_at(&self, ahead: Duration) -> Option<f64> {
        let slots = ahead.as_millis() / SLOT.as_millis();
        self.error(horizon_of(u16::try_from(slots).unwrap_or(u16::MAX)))
    }

    /// The mean absolute error of the forecaster that counts at a horizon, in doublings of 1 + load; `None` where nothing was judged yet.
    pub fn error(&self, horizon: usize) -> Option<f64> {
        let record = &self.records[horizon];
        let from = height(self.last());
        record.errors_near(from).map(|errors| errors[record.best(from, &[]) as usize])
    }
}

impl Origin {
    /// What the one that learns looks at, of a slot at this time of day and what comes then one period ago, as a logarithm.
    fn inputs(&self, [sine, cosine]: [f64; 2], season: Option<f64>) -> [f64; INPUTS] {
        let [last, middle, slow] = self.logs.map(f64::from);
        [1.0, last, middle, slow, sine, cosine, season.unwrap_or(slow)]
    }

    /// Where the trend leads in so many steps.
    fn with_trend(&self, steps: f64) -> f64 {
        (f64::from(self.level) + f64::from(self.trend) * steps).max(0.0)
    }
}

impl Outlook {
    /// Whether the same is to be expected where this is forecast, near enough.
    pub fn is_of(&self, view: &View) -> bool {
        (self.horizon, self.by) == (view.horizon, view.by) && (self.value - view.value).abs() <= 0.01 * self.value
    }
}

impl Record {
    /// How much each has erred from this height and those near it; `None` where nothing was judged yet.
    fn errors_near(&self, height: usize) -> Option<[f64; FORECASTERS]> {
        let (mut errors, mut total) = ([0.0_f32; FORECASTERS], 0.0);
        for other in near(height).filter(|other| self.seen[*other] > 0.0) {
            let weight = neighbour(other, height) * self.seen[other];
            total += weight;
            for (sum, error) in errors.iter_mut().zip(self.errors[other]) {
                *sum += weight * error;
            }
        }
        (total > 0.0).then(|| errors.map(|sum| f64::from(sum / total)))
    }

    /// The forecaster that has erred least from this height, and less so from those near it, of those who take part. One further down the
    /// list must be better by a fiftieth.
    fn best(&self, height: usize, without: &[Forecaster]) -> Forecaster {
        let errors = self.errors_near(height).unwrap_or_default();
        let others = Forecaster::ALL.into_iter().skip(1).filter(|next| !without.contains(next));
        let error = |one: Forecaster| errors[one as usize];
        others.fold(Forecaster::Last, |best, next| if error(next) < error(best) * 0.98 { next } else { best })
    }

    /// How much each error is to be expected of a forecast of this height: what was seen there, less of what was seen near it, up to a limit, and
    /// an assumption for where nothing was seen yet.
    fn weights(&self, height: usize, horizon: usize) -> [f64; ERRORS] {
        let mut weights = ASSUMED_WEIGHTS[horizon];
        let others = || near(height).filter(|other| *other != height && self.spread_of[*other] > 0.0);
        let of_others: f32 = others().map(|other| neighbour(other, height) * self.spread_of[other]).sum();
        let limit = (MOST_OF_OTHERS / of_others).min(1.0);
        add_as_seen(&mut weights, &self.spread[height], 1.0, 0);
        for other in others() {
            // So many bins further the same load lies, seen from here.
            let shift = BINS_A_HEIGHT * (signed(other) - signed(height));
            add_as_seen(&mut weights, &self.spread[other], limit * neighbour(other, height), shift);
        }
        weights.map(f64::from)
    }
}

/// Adds what was seen of errors at another height. Small ones are in proportion to what is forecast and the same here; who erred by more was
/// taken by surprise by another level of load, and that is where it is, whatever was forecast.
fn add_as_seen(weights: &mut [f32; ERRORS], seen: &[f32; ERRORS], share: f32, shift: isize) {
    let mut add = |bins: std::ops::Range<usize>, shift: isize| {
        let from = bins.start.max(0_usize.saturating_add_signed(-shift));
        let to = bins.end.min(ERRORS.saturating_add_signed(-shift));
        if from < to {
            let here = &mut weights[from.saturating_add_signed(shift)..to.saturating_add_signed(shift)];
            for (weight, seen) in here.iter_mut().zip(&seen[from..to]) {
                *weight += share * seen;
            }
        }
    };
    add(0..SMALL_ERRORS.start, shift);
    add(SMALL_ERRORS, 0);
    add(SMALL_ERRORS.end..ERRORS, shift);
}

/// What is assumed of each error at each horizon before anything was seen.
static ASSUMED_WEIGHTS: LazyLock<[[f32; ERRORS]; HORIZONS]> = LazyLock::new(|| {
    AHEAD.map(|ahead| {
        let width = 0.075 + 0.05 * f64::from(ahead).ln();
        let assumed: [f64; ERRORS] = std::array::from_fn(|bin| (-error_of(bin).abs() / width).exp());
        let total: f64 = assumed.iter().sum();
        assumed.map(|assumed| narrow(ASSUMED * assumed / total))
    })
});

/// Each error as what it makes of 1 + load.
static ERROR_RATIOS: LazyLock<[f64; ERRORS]> = LazyLock::new(|| std::array::from_fn(|bin| error_of(bin).exp2()));

/// How many steps of the trend are believed at each horizon.
static TREND_STEPS: LazyLock<[f64; HORIZONS]> = LazyLock::new(|| AHEAD.map(trend_steps));

fn trend_steps(ahead: u16) -> f64 {
    DAMPING * (1.0 - DAMPING.powi(i32::from(ahead))) / (1.0 - DAMPING)
}

/// A slot's time of day as sine and cosine.
fn time_of_day(slot: u32) -> [f64; 2] {
    let (sine, cosine) = (f64::from(slot) * SLOT.as_secs_f64() / 86_400.0 * TAU).sin_cos();
    [sine, cosine]
}

/// The horizon that is nearest to so many slots ahead.
fn horizon_of(ahead: u16) -> usize {
    // Half-way between two in proportion, as horizons double.
    let nearer = |pair: &[u16]| u32::from(ahead).pow(2) < u32::from(pair[0]) * u32::from(pair[1]);
    AHEAD.windows(2).position(nearer).unwrap_or(HORIZONS - 1)
}

/// The heights from which something follows for this one.
fn near(height: usize) -> std::ops::Range<usize> {
    height.saturating_sub(3)..(height + 4).min(HEIGHTS)
}

/// How much that is.
fn neighbour(other: usize, height: usize) -> f32 {
    const SHARES: [f32; 4] = [1.0, NEIGHBOUR, NEIGHBOUR * NEIGHBOUR, NEIGHBOUR * NEIGHBOUR * NEIGHBOUR];
    SHARES[other.abs_diff(height).min(3)]
}

fn log(load: f64) -> f64 {
    load.ln_1p() * std::f64::consts::LOG2_E
}

fn load(log: f64) -> f64 {
    (log.exp2() - 1.0).max(0.0)
}

fn height(load: f64) -> usize {
    height_of_log(log(load))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and a logarithm of 1 + load is not below 0"
)]
fn height_of_log(log: f64) -> usize {
    ((2.0 * log) as usize).min(HEIGHTS - 1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins that there are")]
fn error_bin(error: f64) -> usize {
    (error * 4.0 + 24.0).round().clamp(0.0, 48.0) as usize
}

#[expect(clippy::cast_precision_loss, reason = "bins are few")]
fn error_of(bin: usize) -> f64 {
    (bin as f64 - 24.0) / 4.0
}

#[expect(clippy::cast_possible_wrap, reason = "heights are few")]
fn signed(height: usize) -> isize {
    height as isize
}

#[expect(clippy::cast_possible_truncation, reason = "a float of less precision is enough for what fades")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests;
