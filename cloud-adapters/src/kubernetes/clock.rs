//! The cluster's own clock: the moments that it writes, as seconds of Unix time. Ages are differences between two of
//! them, so a gateway that believes in 1970 gets them right.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as objects hold it (RFC 3339, always UTC): `2026-11-25T18:35:26Z`, in leases with a fraction.
pub fn of_object(text: &str) -> Option<i64> {
    seconds(humantime::parse_rfc3339(text).ok()?)
}

/// A moment as the header `Date` holds it (RFC 9110, 5.6.7): `Wed, 25 Nov 2026 18:35:26 GMT`.
pub fn of_header(text: &str) -> Option<i64> {
    seconds(httpdate::parse_http_date(text).ok()?)
}

fn seconds(moment: SystemTime) -> Option<i64> {
    i64::try_from(moment.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
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
