//! The cluster's own clock: the moments that it writes, as seconds of Unix time. Ages are differences between two of
//! them, so a gateway that believes in 1970 gets them right.

/// A moment as objects hold it (RFC 3339, always UTC): `2026-11-25T18:35:26Z`.
pub fn of_object(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    // Micro times, as leases have them, carry a fraction.
    let time = time.split('.').next()?;
    Some(days(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)? * 86_400 + second_of_day(time)?)
}

/// A moment as the header `Date` holds it (RFC 9110, 5.6.7): `Wed, 25 Nov 2026 18:35:26 GMT`.
pub fn of_header(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    Some(days(year.parse().ok()?, month, day.parse().ok()?)? * 86_400 + second_of_day(time)?)
}

fn second_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(|part| part.parse::<i64>().ok().filter(|number| (0..=60).contains(number)));
    Some(parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??)
}

/// Days since 1970 of a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_moment_are_read() {
        assert_eq!(of_object("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(of_object("2000-02-29T12:00:01Z"), Some(951_825_601));
        assert_eq!(of_object("2026-11-25T18:35:26.123456Z"), Some(1_795_631_726));
        assert_eq!(of_header("Wed, 25 Nov 2026 18:35:26 GMT"), Some(1_795_631_726));
        assert_eq!(of_header("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in ["", "2026-11-25", "2026-13-01T00:00:00Z", "2026-11-25T18:35:26+01:00", "now", "-T:Z"] {
            assert_eq!(of_object(text), None, "{text:?}");
        }
        for text in ["", "25 Nov 2026 18:35:26 GMT", "Wed, 25 Foo 2026 18:35:26 GMT", "Wed, "] {
            assert_eq!(of_header(text), None, "{text:?}");
        }
    }
}
