//! Each format, and each thing that can be wrong with it.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn wrong(text: &str, format: Format) -> String {
    read(text, format, SECOND).unwrap_err().to_string()
}

fn requests(text: &str, format: Format) -> Vec<(f64, f64)> {
    let reading = read(text, format, SECOND).unwrap();
    reading.trace.requests().iter().map(|r| (r.at.as_secs_f64(), r.work.as_secs_f64())).collect()
}

#[test]
fn values_have_a_time_and_perhaps_their_work() {
    let text = "timestamp,work\n1700000000.5,0.25\n1700000001.5\n\n\"1700000003.5\", \"2\"\n";
    assert_eq!(requests(text, Format::Csv), [(0.0, 0.25), (1.0, 1.0), (3.0, 2.0)]);
    assert_eq!(requests("2023-11-16 18:17:03.5\n2023-11-16T18:17:04Z", Format::Csv), [(0.0, 1.0), (0.5, 1.0)]);
}

#[test]
fn tokens_are_work() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4000,10\n2023-11-16 18:17:04.9799600,8000,0\n";
    assert_eq!(requests(text, Format::AzureLlm), [(0.0, 1.3), (1.0, 2.0)]);
}

#[test]
fn a_log_has_its_time_in_brackets_and_a_zone() {
    let line = |time: &str| format!("127.0.0.1 - frank [{time}] \"GET / HTTP/1.0\" 200 2326\n");
    let text = line("10/Oct/2000:13:55:36 -0700") + &line("10/Oct/2000:20:55:40 +0000");
    assert_eq!(requests(&text, Format::AccessLog), [(0.0, 1.0), (4.0, 1.0)]);
}

#[test]
fn what_is_out_of_order_is_sorted_and_counted() {
    let reading = read("3\n1\n2\n1\n", Format::Csv, SECOND).unwrap();
    assert_eq!(reading.out_of_order, 2);
    assert_eq!(reading.trace.requests().len(), 4, "two at the same time are two requests");
    assert_eq!(reading.trace.length(), Duration::from_secs(2));
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    assert_eq!(wrong("", Format::Csv), "the trace is empty: there is no request in it");
    assert_eq!(wrong("time,work\n", Format::Csv), "the trace is empty: there is no request in it");
    assert!(wrong("5\n", Format::Csv).starts_with("all requests of the trace have the same time"));
    assert_eq!(wrong("1\n2,NaN\n", Format::Csv), "line 2: the work NaN is not a number of seconds");
    assert_eq!(wrong("1\n2,-3\n", Format::Csv), "line 2: the work -3 is negative");
    assert_eq!(wrong("1\n2,inf\n", Format::Csv), "line 2: the work inf is not a number of seconds");
    assert!(wrong("1\n2,100000\n", Format::Csv).contains("longer than a day"));
    assert_eq!(wrong("1\nNaN\n", Format::Csv), "line 2: the time NaN is not a number");
    assert!(wrong("1700000000000\n1700000000001\n", Format::Csv).contains("divide by 1,000"));
    assert!(
        wrong("1\n2\n10000000\n", Format::Csv)
            .starts_with("line 3: lies 116 days after the request before it (line 2)")
    );
    assert!(wrong("1\nsoon\n", Format::Csv).contains("\"soon\" is not a time"));
    assert!(wrong("1969-01-01 00:00:00\n1\n", Format::Csv).contains("a date since 1970"));
    assert!(wrong("1,2\n", Format::AzureLlm).contains("GeneratedTokens is missing"));
    assert!(wrong("nobody was here\n", Format::AccessLog).contains("no time in square brackets"));
}

#[test]
fn a_spreadsheets_mark_is_no_part_of_the_trace() {
    assert_eq!(requests("\u{feff}time,work\n0,1\n10,2\n", Format::Csv), [(0.0, 1.0), (10.0, 2.0)]);
    assert_eq!(requests("\u{feff}0\r\n10\r\n", Format::Csv), [(0.0, 1.0), (10.0, 1.0)]);
}

#[test]
fn a_date_may_have_a_zone() {
    let text =
        "2023-11-16T18:17:04+01:00\n2023-11-16 18:17:06.5+0100\n2023-11-16T13:17:07-04:00\n2023-11-16T17:17:08+00:00\n";
    assert_eq!(requests(text, Format::Csv).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0.0, 2.5, 3.0, 4.0]);
    let log = "a - - [2023-11-16T18:17:04+02:00] \"GET /\" 200 1\na - - [2023-11-16T16:17:05Z] \"GET /\" 200 1\n";
    assert_eq!(requests(log, Format::AccessLog), [(0.0, 1.0), (1.0, 1.0)]);
    for zone in ["+a\u{e9}b", "+1", "+01:0", "-", "01:00", "+9\u{661}00"] {
        let problem = wrong(&format!("2023-11-16T18:17:04{zone}\n"), Format::Csv);
        assert!(problem.contains("line 1") && problem.contains("is not a time"), "{problem}");
        let problem = wrong(&format!("a - - [10/Oct/2000:13:55:36 {zone}] x\n"), Format::AccessLog);
        assert!(problem.contains("line 1") && problem.contains("is not a time"), "{problem}");
    }
}
