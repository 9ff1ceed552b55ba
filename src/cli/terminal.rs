//! What a terminal can show: whether there is one, colours, the log, and tables.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Whether people look at standard output.
pub fn is_interactive() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error takes colours.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Logs to standard error by a filter as in `info,tidegate=debug`; `TIDEGATE_LOG` overrides it.
pub fn log(filter: &str) {
    let filter = parsed(filter);
    // A line that cannot be written is lost. Complaining of it on standard error would fail in the same way, and panic.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours())
        .log_internal_errors(false)
        .with_filter_reloading();
    let reload = subscriber.reload_handle();
    let change = move |filter: &str| {
        // Fails only where the log is gone.
        let _ = reload.reload(parsed(filter));
    };
    // A second node in one process keeps the first one's log.
    if subscriber.try_init().is_ok() {
        let _ = CHANGE.set(Box::new(change));
    }
}

fn parsed(filter: &str) -> EnvFilter {
    // The embedded broker tells of every client at info, and warns of each that is refused something, which at a hub anybody
    // can make it do without end; those are counted. Who names it in the filter still hears it.
    let quiet = "mqtt5=warn,mqtt5::broker::client_handler=error";
    let filter = std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| format!("{quiet},{filter}"));
    EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        notify(&format!("the log filter {filter:?} is not one ({error}); logging at info"));
        EnvFilter::new("info")
    })
}

/// Logs by another filter from now on.
pub fn change_log(filter: &str) {
    if let Some(change) = CHANGE.get() {
        change(filter);
    }
    if std::env::var_os("TIDEGATE_LOG").is_some() {
        notify("TIDEGATE_LOG is set, and goes before node.log");
    }
}

/// How the filter of the log is changed.
static CHANGE: OnceLock<Change> = OnceLock::new();

type Change = Box<dyn Fn(&str) + Send + Sync>;

/// Tells whoever looks at standard error, and goes on where nobody can: `eprintln!` panics when the log's disk is full, or when
/// nobody reads.
pub fn notify(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}

/// The same as [`notify`], like `eprintln!`.
macro_rules! complain {
    ($($line:tt)*) => { $crate::cli::terminal::notify(&format!($($line)*)) };
}
pub(crate) use complain;

/// Prints a line of an answer, like `println!`, which panics when nobody reads.
macro_rules! say {
    () => { $crate::cli::terminal::answer(format_args!("")) };
    ($($line:tt)*) => { $crate::cli::terminal::answer(format_args!($($line)*)) };
}
pub(crate) use say;

/// Prints a line of an answer; [`say!`] is how. Whoever has heard enough, as behind `head`, is told nothing more: that ends the
/// program, and is no failure. An answer that cannot be written is one.
pub fn answer(line: Arguments<'_>) {
    match print(line) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            notify(&format!("error: standard output cannot be written: {error}"));
            std::process::exit(1);
        }
    }
}

/// Prints a line and goes on where nobody reads: for who has more to do than to answer.
pub fn mention(line: &str) {
    let _unheard = print(format_args!("{line}"));
}

/// Prints a line at once, or says why nobody has it.
pub fn print(line: Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Lines of columns, each as wide as its widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["digits".to_owned(), "2".to_owned()], vec!["a".to_owned(), "10".to_owned()]];
        assert_eq!(super::table(&["SERVICE", "N"], &rows), "SERVICE  N\ndigits   2\na        10");
    }
}
