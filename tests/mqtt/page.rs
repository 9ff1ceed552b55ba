//! The commands that `docs/topics.md` shows are typed as they stand there, at a node that bursts, and each shows something.

use super::clients::Subscriber;
use super::embedded::mqtt;
use crate::support::{Finished, Home, Spec};

const PAGE: &str = include_str!("../../docs/topics.md");

/// The broker that the page's commands name, in both ways of naming it.
const BROKER: [&str; 2] = ["-h 127.0.0.1 -p 1883", "127.0.0.1:1883"];

/// The commands of the page that watch below `node/` and `discovery/`, without their examples of one node.
fn commands(program: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    // Nobody asks anybody for anything here.
    let is_seldom = |line: &&str| line.contains("/command/") || line.contains("/response/");
    blocks.flat_map(str::lines).filter(|line| line.starts_with(program) && !is_seldom(line)).collect()
}

#[test]
fn every_command_of_the_page_shows_messages() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let address = mqtt(&node);
    let port = address.rsplit_once(':').unwrap().1;
    let here = |line: &str| {
        let [separate, joined] = BROKER;
        let line = line.replace(separate, &format!("-h 127.0.0.1 -p {port}")).replace(joined, &address);
        line.replace("gateway-7", "gateway-t")
    };
    let seen: Vec<_> =
        commands("mosquitto_sub ").into_iter().map(|line| (line, Subscriber::of_printed(&here(line)))).collect();
    assert!(seen.len() >= 8, "the page shows a command for every kind of topic: {}", seen.len());
    std::thread::scope(|scope| {
        // From before anything happens, since events are not retained.
        let watching: Vec<_> = commands("tidegate watch ")
            .into_iter()
            .map(|line| {
                let (home, typed) = (&home, here(line));
                (line, scope.spawn(move || watched(home, &typed)))
            })
            .collect();
        let load = node.load(6);
        for (line, subscriber) in &seen {
            let shown = subscriber.wait_for(line, |message| !message.is_empty());
            assert!(shown.json().is_object(), "{line}: {shown:?}");
        }
        for (line, watching) in watching {
            let ended = watching.join().unwrap();
            assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
            let is_shown = ended.stdout.starts_with(['t', '{']) && !ended.stdout.contains("NOT DECODED");
            assert!(is_shown, "{line}: {}", ended.stdout);
        }
        load.stop().assert_sound();
    });
}

/// A `tidegate watch` as it is typed, until it has shown one message.
fn watched(home: &Home, typed: &str) -> Finished {
    let words: Vec<&str> = typed.split_whitespace().map(|word| word.trim_matches('\'')).skip(1).collect();
    home.command(&[&words[..], &["--count", "1"]].concat())
}
