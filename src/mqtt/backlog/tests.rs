use super::*;

fn message(topic: &str, payload: &str, retained: bool, qos: Qos) -> Outgoing {
    Outgoing { topic: topic.into(), payload: payload.into(), retained, qos, expiry: None, properties: None }
}

fn event(payload: &str) -> Outgoing {
    message("event", payload, false, Qos::AtLeastOnce)
}

fn report(payload: &str) -> Outgoing {
    message("load", payload, false, Qos::AtMostOnce)
}

fn retained(topic: &str, payload: &str) -> Outgoing {
    message(topic, payload, true, Qos::AtLeastOnce)
}

/// Room for so many messages of each kind.
fn room_for(messages: usize) -> Backlog {
    let bound = Bound { messages, bytes: usize::MAX };
    let limits = Limits { waiting: bound, remembered: bound, kept: bound, in_flight_bytes: usize::MAX };
    Backlog::new("test", limits)
}

fn connected(messages: usize) -> Backlog {
    let mut backlog = room_for(messages);
    backlog.connected(None);
    backlog
}

fn drain(backlog: &mut Backlog) -> Vec<String> {
    std::iter::from_fn(|| backlog.next()).map(|m| String::from_utf8(m.payload).unwrap()).collect()
}

/// Sent and acknowledged, all of it.
fn settle(backlog: &mut Backlog) {
    let handed: Vec<Qos> = backlog.handed.iter().map(|item| item.message.qos).collect();
    for (id, qos) in (1..).zip(handed) {
        let id = if qos == Qos::AtMostOnce { 0 } else { id };
        backlog.sent(id);
        backlog.acknowledged(id, false);
    }
    assert!(backlog.handed.is_empty() && backlog.unacknowledged.is_empty());
}

#[test]
fn nothing_is_handed_over_before_the_broker_is_there() {
    let mut backlog = room_for(8);
    backlog.push(event("e1"));
    assert_eq!(drain(&mut backlog), Vec::<String>::new());
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["e1"]);
    backlog.disconnected();
    backlog.push(event("e2"));
    assert_eq!(drain(&mut backlog), Vec::<String>::new());
}

#[test]
fn the_newest_wins_for_each_retained_topic() {
    let mut backlog = connected(8);
    backlog.push(retained("state", "old"));
    backlog.push(event("e1"));
    backlog.push(retained("state", "new"));
    assert_eq!(drain(&mut backlog), ["e1", "new"]);
}

#[test]
fn a_full_backlog_gives_up_the_oldest_report_before_any_event() {
    let mut backlog = connected(3);
    backlog.push(event("e1"));
    backlog.push(report("l1"));
    backlog.push(event("e2"));
    backlog.push(event("e3"));
    assert_eq!(drain(&mut backlog), ["e1", "e2", "e3"]);
    assert_eq!(backlog.dropped(), 1);
}

#[test]
fn what_was_not_acknowledged_goes_out_again_and_retained_values_first() {
    let mut backlog = connected(8);
    backlog.push(retained("state", "online"));
    backlog.push(event("acked"));
    backlog.push(event("lost"));
    drain(&mut backlog);
    for id in 1..=3 {
        backlog.sent(id);
    }
    backlog.acknowledged(1, false);
    backlog.acknowledged(2, false);
    assert!(!backlog.is_settled());
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["online", "lost"]);
    settle(&mut backlog);
    assert!(backlog.is_settled());
    assert_eq!(backlog.in_flight_bytes, 0);
}

#[test]
fn what_goes_out_again_goes_in_its_order_whatever_the_packet_ids() {
    let mut backlog = connected(8);
    ["e1", "e2", "e3"].into_iter().for_each(|payload| backlog.push(event(payload)));
    drain(&mut backlog);
    [64, 1, 2].into_iter().for_each(|id| backlog.sent(id));
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["e1", "e2", "e3"]);
}

#[test]
fn a_report_that_went_down_with_the_connection_is_not_said_again() {
    let mut backlog = connected(8);
    backlog.push(report("l1"));
    drain(&mut backlog);
    backlog.push(report("l2"));
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["l2"]);
}

#[test]
fn a_clear_that_was_not_acknowledged_does_not_undo_what_was_said_after_it() {
    let mut backlog = connected(8);
    backlog.push(retained("burst", ""));
    drain(&mut backlog);
    backlog.sent(1);
    backlog.push(retained("burst", "again"));
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["again"]);
}

#[test]
fn a_cleared_topic_is_not_said_again() {
    let mut backlog = room_for(8);
    backlog.push(retained("burst", "x"));
    backlog.push(retained("burst", ""));
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), [""]);
    settle(&mut backlog);
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), Vec::<String>::new());
}

#[test]
fn what_is_said_while_the_retained_values_go_out_again_is_said_once_and_new() {
    let mut backlog = room_for(8);
    backlog.push(retained("a", "old"));
    backlog.push(retained("b", "b"));
    backlog.connected(None);
    backlog.push(retained("a", "new"));
    assert_eq!(drain(&mut backlog), ["b", "new"]);
}

#[test]
fn a_ticket_is_released_once_the_broker_has_the_message() {
    let mut backlog = connected(2);
    assert!(backlog.keep(event("e1"), 1) && backlog.keep(event("e2"), 2));
    assert!(!backlog.keep(event("e3"), 3), "two are all that is kept");
    drain(&mut backlog);
    backlog.sent(1);
    backlog.sent(2);
    backlog.acknowledged(2, false);
    assert_eq!(backlog.take_released(), [2]);
    assert!(backlog.keep(event("e3"), 3));
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["e1", "e3"]);
    settle(&mut backlog);
    assert_eq!(backlog.take_released(), [1, 3]);
    assert_eq!(backlog.kept, Tally::default());
}

#[test]
fn what_is_kept_is_never_given_up_for_something_else() {
    let mut backlog = room_for(2);
    assert!(backlog.keep(event("kept"), 1));
    for number in 0..10 {
        backlog.push(event(&number.to_string()));
    }
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), ["kept", "8", "9"]);
    assert_eq!(backlog.dropped(), 8);
}

#[test]
fn a_message_that_the_broker_is_too_small_for_is_given_up_and_its_ticket_released() {
    let mut backlog = room_for(8);
    let large = "x".repeat(1_000);
    assert!(backlog.keep(event(&large), 7));
    backlog.push(retained("state", &large));
    backlog.push(event("small"));
    backlog.connected(Some(500));
    assert_eq!(drain(&mut backlog), ["small"]);
    assert_eq!((backlog.dropped(), backlog.take_released()), (2, vec![7]));
    // Another broker takes what the last one did not.
    backlog.connected(None);
    assert_eq!(drain(&mut backlog), [large, "small".to_owned()]);
}

#[test]
fn a_message_over_our_own_limit_never_waits() {
    let mut backlog = connected(8);
    let payload = "x".repeat(MAX_PACKET_BYTES as usize);
    backlog.push(retained("state", &payload));
    assert!(backlog.keep(event(&payload), 1));
    assert_eq!((backlog.dropped(), backlog.take_released(), backlog.bytes()), (2, vec![1], 0));
}

#[test]
fn what_the_broker_refuses_is_counted_and_released() {
    let mut backlog = connected(8);
    assert!(backlog.keep(event("secret"), 1));
    drain(&mut backlog);
    backlog.sent(1);
    backlog.acknowledged(1, true);
    assert_eq!((backlog.dropped(), backlog.take_released()), (1, vec![1]));
    assert!(backlog.is_settled());
}

#[test]
fn so_many_bytes_are_on_their_way_at_once_and_one_message_always() {
    let mut backlog = Backlog::new("test", Limits { in_flight_bytes: 600, ..Limits::default() });
    backlog.connected(None);
    let large = "x".repeat(1_000);
    [large.as_str(), "e2", "e3"].into_iter().for_each(|payload| backlog.push(event(payload)));
    assert_eq!(drain(&mut backlog), [large.as_str()], "larger than the bound, and alone");
    backlog.sent(1);
    backlog.acknowledged(1, false);
    assert_eq!(drain(&mut backlog), ["e2", "e3"]);
    backlog.put_back();
    assert_eq!(drain(&mut backlog), ["e3"]);
}

/// Resident bytes of this process, from the kernel.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// The whole of what one link may hold: three bounds and what is in flight, with the names of what is to be said again.
fn whole(limits: &Limits) -> usize {
    let largest = MAX_PACKET_BYTES as usize + OVERHEAD_BYTES;
    let names = limits.remembered.messages * 128;
    limits.waiting.bytes + limits.remembered.bytes + limits.kept.bytes + limits.in_flight_bytes + largest + names
}

#[test]
fn a_flood_of_messages_of_all_kinds_and_sizes_costs_bounded_memory() {
    let limits = Limits::default();
    let mut backlog = Backlog::new("test", limits);
    backlog.connected(None);
    let before = resident_bytes();
    let mut most = 0;
    for number in 0..200_000_u32 {
        // Sizes from nothing to 60 KB, most of them small, as reports and events are.
        let bytes = if number % 97 == 0 { 60_000 } else { number % 700 };
        let payload = "x".repeat(bytes as usize);
        match number % 4 {
            0 => backlog.push(report(&payload)),
            1 => backlog.push(event(&payload)),
            2 => backlog.push(retained(&format!("service/{}", number % 5_000), &payload)),
            _ => drop(backlog.keep(event(&payload), number.into())),
        }
        // The client takes what it may, and its broker answers nothing and is lost now and then.
        if number % 10 == 0 && backlog.next().is_some() && number % 20 == 0 {
            backlog.sent(u16::try_from(number % 60).unwrap() + 1);
        }
        match number % 20_000 {
            10_000 => backlog.disconnected(),
            0 => backlog.connected(None),
            _ => {}
        }
        if number % 1_000 == 0 {
            most = most.max(backlog.bytes());
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("at most {most} bytes held, bound {}; the process grew by {grown} bytes", whole(&limits));
    assert!(most > limits.waiting.bytes, "the bounds were reached: {most}");
    assert!(most <= whole(&limits), "{most} bytes, {} are the bound", whole(&limits));
    // Other tests run in this process, and an allocator keeps what it had: all the messages would be 190 MB.
    assert!(grown < 64 << 20, "{grown} bytes more in the process");
    assert!(backlog.dropped() > 100_000, "{} given up", backlog.dropped());
}
