//! The daemon's clock: its own times compared with each other, never with ours.

use std::time::{Duration, SystemTime};

/// A time as the daemon writes it (RFC 3339, in UTC or with an offset); `None` for what is none, such as Go's zero time.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    let (clock, offset) = match text.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => with_offset(text)?,
    };
    let local = humantime::parse_rfc3339(&format!("{clock}Z")).ok()?;
    let shift = Duration::from_secs(u64::from(i32::unsigned_abs(offset)) * 60);
    // East of Greenwich the clock shows more than UTC.
    if offset >= 0 { local.checked_sub(shift) } else { local.checked_add(shift) }
}

/// `2026-11-25T18:40:04.59+02:00` as the time without the offset, and the offset in minutes.
fn with_offset(text: &str) -> Option<(&str, i32)> {
    let sign_at = text.len().checked_sub("+00:00".len())?;
    let (clock, offset) = text.is_char_boundary(sign_at).then(|| text.split_at(sign_at))?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes = hours.parse::<u8>().ok().map(i32::from)? * 60 + minutes.parse::<u8>().ok().map(i32::from)?;
    match offset.as_bytes().first()? {
        b'+' => Some((clock, minutes)),
        b'-' => Some((clock, -minutes)),
        _ => None,
    }
}

/// How long before `now` something was, both on the daemon's clock; `None` where its clock was set back in between.
pub(super) fn age(then: Option<&str>, now: Option<SystemTime>) -> Option<Duration> {
    now?.duration_since(moment(then?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_utc_and_with_an_offset() {
        let utc = moment("2026-11-25T18:40:04.5Z").expect("a time");
        assert_eq!(moment("2026-11-25T20:10:04.5+01:30"), Some(utc));
        assert_eq!(moment("2026-11-25T13:40:04.5-05:00"), Some(utc));
        for none in ["", "0001-01-01T00:00:00Z", "yesterday", "2026-11-25T18:40:04", "+01:00", "ü+01:00"] {
            assert_eq!(moment(none), None, "{none}");
        }
    }

    #[test]
    fn an_age_is_told_by_the_daemons_clock_alone() {
        let now = moment("2026-11-25T18:40:10Z");
        assert_eq!(age(Some("2026-11-25T18:40:04Z"), now), Some(Duration::from_secs(6)));
        assert_eq!(age(Some("2026-11-25T18:40:11Z"), now), None, "its clock was set back");
        assert_eq!(age(Some("2026-11-25T18:40:04Z"), None), None);
        assert_eq!(age(None, now), None);
    }
}
