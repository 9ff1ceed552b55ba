//! `tidegate watch`: an MQTT subscriber that decodes everything, a line each.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::broker::BrokerArgs;
use super::terminal::{self, complain};
use crate::mqtt::link::{Link, LinkObserver, LinkOptions, LinkStatus};
use crate::mqtt::{Incoming, Qos};
use crate::wire::describe;

/// Lines that wait for a slow terminal; more are dropped and counted.
const WAITING_LINES: usize = 10_000;

/// Subscribe to a fleet's topics and print each message decoded.
///
/// Example: tidegate watch 'tidegate/v1/default/discovery/#' --broker 127.0.0.1:1883
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An MQTT topic filter; without it all of the credential's fleet, or tidegate/# where there is none.
    filter: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// One JSON object a line, with `topic`, `retained` and `message`.
    #[arg(long)]
    json: bool,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

enum Seen {
    Message(Incoming),
    Link(LinkStatus),
}

struct Observer(mpsc::Sender<Seen>);

impl LinkObserver for Observer {
    fn received(&self, message: Incoming) {
        // A terminal that cannot keep up loses lines rather than memory.
        let _ = self.0.try_send(Seen::Message(message));
    }

    fn changed(&self, status: &LinkStatus) {
        let _ = self.0.try_send(Seen::Link(status.clone()));
    }
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let filter = self.filter.clone().map_or_else(|| self.broker.everything(), Ok);
        let read = filter.and_then(|filter| Ok((filter, self.broker.options("watch")?)));
        let (filter, mut options) = match read {
            Ok(read) => read,
            Err(error) => {
                complain!("error: {error}");
                return ExitCode::from(super::EXIT_USAGE);
            }
        };
        options.subscriptions = vec![(filter, Qos::AtMostOnce)];
        terminal::log("warn,tidegate::mqtt=info");
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain!("error: {error}");
                return ExitCode::FAILURE;
            }
        };
        runtime.block_on(self.watch(options))
    }

    async fn watch(&self, options: LinkOptions) -> ExitCode {
        let (sender, mut seen) = mpsc::channel(WAITING_LINES);
        let _link = Link::start(options, Arc::new(Observer(sender)));
        let mut printed = 0;
        while self.count.is_none_or(|count| printed < count) {
            match seen.recv().await {
                Some(Seen::Message(message)) => {
                    // Nobody reads any more, as behind `head`.
                    if terminal::print(format_args!("{}", self.line(&message))).is_err() {
                        return ExitCode::SUCCESS;
                    }
                    printed += 1;
                }
                Some(Seen::Link(status)) if !status.connected => {
                    complain!("connection lost: {}; trying again", status.last_error.unwrap_or_default());
                }
                Some(Seen::Link(_)) => {}
                None => return ExitCode::FAILURE,
            }
        }
        ExitCode::SUCCESS
    }

    fn line(&self, message: &Incoming) -> String {
        let decoded = describe(&message.topic, &message.payload);
        let retained = if message.retained { " (retained)" } else { "" };
        if self.json {
            let message_value = decoded.unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }));
            return serde_json::json!({ "topic": message.topic, "retained": message.retained, "message": message_value })
                .to_string();
        }
        let topic = printable(&message.topic);
        match decoded {
            Ok(serde_json::Value::Null) => format!("{topic}{retained} cleared"),
            Ok(value) => printable(&format!("{topic}{retained} {value}")),
            Err(error) => format!("{topic}{retained} NOT DECODED: {error} ({} bytes)", message.payload.len()),
        }
    }
}

/// Topics and payloads are whoever's: what would steer the terminal is shown and not obeyed.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_unicode().collect() } else { vec![c] }).collect()
}
