use super::*;

/// Nodes that lose their broker in the same moment.
const NODES: usize = 500;

/// What five hundred nodes do after they lost their broker at once, second by second.
struct Herd {
    /// Attempts while it was away and the one that succeeded.
    attempts: Vec<u32>,
    /// Connections made.
    connected: Vec<u32>,
}

/// Plays them against a broker that is away for `away`; an attempt takes no time, which is the worst case.
fn play(away: Duration, random: &mut fastrand::Rng) -> Herd {
    let seconds = usize::try_from((away + LONGEST).as_secs()).unwrap() + 2;
    let mut herd = Herd { attempts: vec![0; seconds], connected: vec![0; seconds] };
    for _ in 0..NODES {
        let mut backoff = Backoff::new();
        let mut now = backoff.pause(Some(LONGEST), random.f64());
        loop {
            let second = usize::try_from(now.as_secs()).unwrap();
            herd.attempts[second] += 1;
            if now >= away {
                herd.connected[second] += 1;
                break;
            }
            now += backoff.pause(None, random.f64());
        }
    }
    herd
}

fn print(title: &str, counts: &[u32], from: usize) {
    println!("{title}");
    for (second, count) in counts.iter().enumerate().skip(from) {
        println!("{second:>4} s {count:>5} {}", "#".repeat((*count as usize).div_ceil(4)));
    }
}

/// After an absence of minutes every node draws its pauses from 30 s: 500 / 30 = 16.7 of them a second on average. In the
/// first second after the return it is twice that, since a moment falls into a long pause rather than a short one (the time
/// left of a uniform pause has the density 2 (30 - x) / 900): 33 with a deviation of 6. Four times the mean is six
/// deviations above even that: a herd, not chance.
#[test]
fn five_hundred_nodes_come_back_over_half_a_minute() {
    let mut random = fastrand::Rng::with_seed(500);
    let away = Duration::from_secs(300);
    let herd = play(away, &mut random);
    let back = &herd.connected[300..330];
    print("connections after an absence of 300 s", &herd.connected, 300);
    assert_eq!(back.iter().sum::<u32>() as usize, NODES, "all are back within the longest pause");
    let mean = f64::from(u32::try_from(NODES).unwrap()) / LONGEST.as_secs_f64();
    for (second, count) in back.iter().enumerate() {
        assert!(f64::from(*count) <= 4.0 * mean, "{count} connections in second {second}, {mean:.1} on average");
    }
    let late = &herd.attempts[60..300];
    let most = late.iter().max().unwrap();
    // A pause is 15 s on average: 33 attempts a second at a broker that stays away.
    println!("attempts a second from the second minute on: at most {most}");
    assert!(f64::from(*most) <= 4.0 * 2.0 * mean, "{most} attempts in one second");
}

/// The step doubles with each attempt, so whoever was turned away for `t` pauses about that long: an absence of `t` is
/// followed by a return over about `t`. For each absence no second may see more than four times the even share of that,
/// and never more than everyone.
#[test]
fn a_short_absence_is_followed_by_a_return_about_as_long() {
    let mut random = fastrand::Rng::with_seed(7);
    for away_s in [1_u32, 2, 4, 8, 16, 32, 64] {
        let herd = play(Duration::from_secs(away_s.into()), &mut random);
        let most = f64::from(*herd.connected.iter().max().unwrap());
        let even = NODES as f64 / f64::from(away_s.clamp(1, 30));
        println!("away for {away_s:>2} s: at most {most} connections in a second, {even:.1} if spread over that time");
        assert!(most <= (4.0 * even).min(NODES as f64), "{most} after {away_s} s, {even:.1} on average");
    }
}

#[test]
fn a_pause_grows_to_half_a_minute_and_no_further() {
    let mut backoff = Backoff::new();
    let longest: Vec<u64> =
        (0..10).map(|_| u64::try_from(backoff.pause(None, 0.999_999).as_millis()).unwrap() + 1).collect();
    assert_eq!(longest, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
}

#[test]
fn only_a_connection_that_stood_starts_afresh() {
    let grown = || {
        let mut backoff = Backoff::new();
        (0..9).for_each(|_| _ = backoff.pause(None, 0.5));
        backoff
    };
    assert_eq!(grown().pause(Some(Duration::from_secs(29)), 0.5), Duration::from_secs(15));
    assert_eq!(grown().pause(Some(Duration::from_secs(30)), 0.5), Duration::from_millis(100));
}
