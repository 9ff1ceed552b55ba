//! States of policies as bytes.

use std::time::Duration;

use super::{
    Basis, Bounds, Change, Metric, Observation, Policy, PolicyState, Side, concurrency, predictive, threshold,
};
use crate::archive::{Archive, archived, archived_variants};
use crate::forecast::Forecaster;

archived!(Bounds { min, max });
archived!(Observation {
    utilisation,
    cpu,
    memory,
    network,
    request_rate,
    latency_p95,
    custom,
    ready,
    starting,
    in_flight,
    queued,
    requests,
    requests_short,
    arrivals_per_s,
    service_time,
    completed,
    starting_for,
    start_time,
    paid_ahead,
    minimum_billing,
    local,
});
archived!(threshold::Config { metric, threshold, scale_factor, interval, band });
archived!(concurrency::Config {
    target,
    stable_window,
    panic_window,
    panic_threshold,
    max_scale_up_rate,
    max_scale_down_rate,
    scale_down_delay,
});
archived!(predictive::Config { concurrency, late_after, late_price, without });

impl Archive for Metric {
    fn write(&self, to: &mut Vec<u8>) {
        Self::ALL.iter().position(|one| one == self).unwrap_or(Self::ALL.len()).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Self::ALL.get(usize::read(from)?).copied()
    }
}

archived_variants!(Policy { 1 => Threshold, 2 => Concurrency, 3 => Predictive, 4 => Largest });
archived_variants!(PolicyState { 1 => Threshold, 2 => Concurrency, 3 => Predictive, 4 => Largest });

impl Archive for Side {
    fn write(&self, to: &mut Vec<u8>) {
        (*self == Self::Above).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        bool::read(from).map(|is_above| if is_above { Self::Above } else { Self::Below })
    }
}

/// As states keep it: of a last change only whether it stands at a bound is asked again, see [`still`].
impl Archive for Change {
    fn write(&self, to: &mut Vec<u8>) {
        let kept: u8 = match self {
            Self::AtMaximum => 1,
            Self::AtMinimum => 2,
            _ => 0,
        };
        kept.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            0 => Some(Self::Inside),
            1 => Some(Self::AtMaximum),
            2 => Some(Self::AtMinimum),
            _ => None,
        }
    }
}

impl Archive for Basis {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Threshold => 1_u8.write(to),
            Self::Concurrency { panics } => {
                2_u8.write(to);
                panics.write(to);
            }
            Self::Forecast { ahead, by } => {
                3_u8.write(to);
                ahead.write(to);
                by.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            1 => Some(Self::Threshold),
            2 => Some(Self::Concurrency { panics: bool::read(from)? }),
            3 => Some(Self::Forecast { ahead: Duration::read(from)?, by: Forecaster::read(from)? }),
            _ => None,
        }
    }
}
