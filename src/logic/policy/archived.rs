//! States of policies as bytes.

use std::time::Duration;

use super::{Basis, Change, PolicyState, Side, predictive};
use crate::logic::archive::Archive;
use crate::logic::forecast::Forecaster;

impl Archive for PolicyState {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Threshold(state) => {
                1_u8.write(to);
                state.write(to);
            }
            Self::Concurrency(state) => {
                2_u8.write(to);
                state.write(to);
            }
            Self::Predictive(state) => {
                3_u8.write(to);
                state.write(to);
            }
            Self::Largest(states) => {
                4_u8.write(to);
                states.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u8::read(from)? {
            1 => Archive::read(from).map(Self::Threshold),
            2 => Archive::read(from).map(Self::Concurrency),
            3 => {
                let state = predictive::State::read(from).filter(predictive::State::is_sound)?;
                Some(Self::Predictive(Box::new(state)))
            }
            4 => Archive::read(from).map(Self::Largest),
            _ => None,
        }
    }
}

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
