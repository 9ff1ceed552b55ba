//! How a play went over time, in a bounded number of points.

use std::time::Duration;

/// More points than a plot is wide show nothing more.
const MOST: usize = 2_000;

/// One moment, or the mean of several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When it begins.
    pub at: Duration,
    /// Requests that would be at replicas if none had to wait: work that came, per time.
    pub load: f64,
    /// Requests that the ready replicas take at once.
    pub places: f64,
    /// Requests that wait.
    pub queued: f64,
    /// What instances have cost until then.
    pub spend: f64,
}

/// Points in their order; when there are too many, each two become one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    points: Vec<Point>,
    /// How many ticks a point is made of, and those of the one that is being made.
    stride: usize,
    open: Vec<Point>,
}

impl Course {
    /// Adds what a tick saw.
    pub(super) fn push(&mut self, point: Point) {
        self.open.push(point);
        if self.open.len() < self.stride.max(1) {
            return;
        }
        self.points.extend(merged(&self.open));
        self.open.clear();
        if self.points.len() >= MOST {
            self.points = self.points.chunks(2).filter_map(merged).collect();
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// All of them, the one that is being made included.
    pub fn points(&self) -> Vec<Point> {
        self.points.iter().copied().chain(merged(&self.open)).collect()
    }
}

/// The mean of some points; of what waits the most, since a peak is what is looked for, and what was spent by their end.
#[expect(clippy::cast_precision_loss, reason = "points are few")]
fn merged(points: &[Point]) -> Option<Point> {
    let (first, last) = (points.first()?, points.last()?);
    let mean = |field: fn(&Point) -> f64| points.iter().map(field).sum::<f64>() / points.len() as f64;
    Some(Point {
        at: first.at,
        load: mean(|point| point.load),
        places: mean(|point| point.places),
        queued: points.iter().map(|point| point.queued).fold(0.0, f64::max),
        spend: last.spend,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_course_is_bounded_and_keeps_its_mean_its_peaks_and_its_end() {
        let mut course = Course::default();
        for tick in 0..100_000_u32 {
            let queued = if tick == 77_777 { 500.0 } else { 1.0 };
            let load = f64::from(tick % 10);
            course.push(Point {
                at: Duration::from_secs(tick.into()),
                load,
                places: 4.0,
                queued,
                spend: f64::from(tick),
            });
        }
        let points = course.points();
        assert!((MOST / 2..=MOST + 1).contains(&points.len()), "{}", points.len());
        let mean = points.iter().map(|point| point.load).sum::<f64>() / f64::from(u32::try_from(points.len()).unwrap());
        assert!((mean - 4.5).abs() < 0.05, "{mean}");
        assert!(points.iter().any(|point| point.queued == 500.0) && points.iter().all(|point| point.places == 4.0));
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].spend < pair[1].spend));
        assert_eq!(points.last().unwrap().spend, 99_999.0);
    }
}
