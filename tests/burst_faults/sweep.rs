//! A provider with hundreds of instances of this node, half of which nobody wants, and some of others beside them; its
//! lists come in pages, one of which fails now and then, and are as old as the list before. Counted at the provider. The
//! lane `faults` plays it with two thousand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tidegate::journal::{Closing, Journal, LaunchRow, Stage, StateDir};

use super::support::{Home, Spec, wait_until};

/// Orphans are half of them closed in the journal and listed all the same, half of a service that is not configured any
/// more.
struct Sizes {
    owned: usize,
    orphans: usize,
    foreign: usize,
}

fn sizes() -> Sizes {
    match std::env::var_os("TIDEGATE_FAULT_ROUNDS") {
        None => Sizes { owned: 200, orphans: 200, foreign: 50 },
        Some(_) => Sizes { owned: 1_000, orphans: 1_000, foreign: 100 },
    }
}

/// Instances on a page of the provider's list.
const PAGE: usize = 100;

/// Up to two thousand processes of the program; forty seconds on a quiet machine, and ten times that on one that is not.
const SWEEP: Duration = Duration::from_secs(600);

/// The provider: a folder for each page, a file for each instance. Every third list breaks off at its fifth page, and every
/// second one that does not is the one before it.
const PROVIDER: &str = r#"#!/bin/sh
set -eu
cd "$ACCOUNT"
request=$(cat)
launch=$(printf %s "$request" | sed -n 's/.*"launch":"\([^"]*\)".*/\1/p')
answer() { printf '{"protocol":1,"ok":{%s}}\n' "$1"; }
pages() { for page in page-*; do cat "$page"/* /dev/null; done | sed '$ s/,$//'; }
case $request in
*'"verb":"list"'*)
    echo >>lists
    count=$(wc -l <lists)
    if [ $((count % 3)) -eq 0 ]; then
        echo '{"protocol":1,"error":{"kind":"transient","message":"page 5 did not come"}}'
        exit
    fi
    pages >now
    [ $((count % 2)) -eq 0 ] && [ -f before ] || cp now before
    printf '{"protocol":1,"ok":{"instances":['; cat before; echo ']}}'
    mv now before
    ;;
*'"verb":"describe"'*)
    for file in page-*/"$launch"; do
        if [ -f "$file" ]; then answer "\"instance\":$(sed 's/,$//' "$file")"; else answer '"instance":null'; fi
    done
    ;;
*'"verb":"terminate"'*)
    rm -f page-*/"$launch"
    answer ''
    ;;
*) echo '{"protocol":1,"error":{"kind":"no_capacity","message":"full"}}' ;;
esac
"#;

/// What the provider runs.
struct Account {
    folder: PathBuf,
    filled: usize,
}

impl Account {
    fn new(home: &Home) -> Self {
        let folder = home.path().join("account");
        std::fs::create_dir(&folder).unwrap();
        Self { folder, filled: 0 }
    }

    fn add(&mut self, launch: &str, owner: (&str, &str), service: &str, authority: &str) {
        let page = self.folder.join(format!("page-{:03}", self.filled / PAGE));
        std::fs::create_dir_all(&page).unwrap();
        let instance = json!({
            "launch": launch, "owner": { "fleet": owner.0, "node": owner.1, "session": 1 }, "service": service,
            "state": "running", "reach": { "kind": "loopback", "authority": authority }, "age_ms": 60_000,
        });
        std::fs::write(page.join(launch), format!("{instance},\n")).unwrap();
        self.filled += 1;
    }

    fn count(&self, prefix: &str) -> usize {
        let pages = std::fs::read_dir(&self.folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let files = pages.flat_map(|page| std::fs::read_dir(page.path()).unwrap().flatten());
        files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix)).count()
    }
}

/// Answers every renewal as an instance that is ready.
fn instances() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(renewed(stream))));
    authority
}

fn renewed(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut heard, mut line, mut length) = (BufReader::new(stream), String::new(), 0);
    while heard.read_line(&mut line)? > 0 && line.trim() != "" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    heard.read_exact(&mut body)?;
    let renewal: serde_json::Value = serde_json::from_slice(&body)?;
    let status = json!({ "launch": renewal["launch"], "service": "many", "state": "ready", "remaining_ms": 60_000 });
    let (status, mut stream) = (status.to_string(), heard.into_inner());
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", status.len());
    stream.write_all(format!("{head}connection: close\r\n\r\n{status}").as_bytes())
}

fn row(launch: &str, service: &str) -> LaunchRow {
    LaunchRow {
        launch: launch.into(),
        service: service.into(),
        adapter: "market".into(),
        session: 1,
        reason: "load".into(),
        stage: Stage::Intended,
        intended_at_ms: now_ms() - 60_000,
        ready_at_ms: None,
        ending_at_ms: None,
        ended_at_ms: None,
        end_reason: None,
        price_per_hour_micro: 0,
        minimum_billing_ms: 0,
        billing_step_ms: 1_000,
        cost_micro: None,
        currency: Some("EUR".into()),
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What a former run left in its journal and at the provider.
#[tokio::main(flavor = "current_thread")]
async fn leave_behind(sizes: &Sizes, state_dir: &Path, account: &mut Account, authority: &str) {
    let state = StateDir::open(state_dir).unwrap();
    let journal = Journal::open(&state).unwrap();
    let ours = ("test", "gateway-t");
    for number in 0..sizes.owned.max(sizes.orphans) {
        let (owned, orphan) = (format!("owned-{number}"), format!("orphan-{number}"));
        if number < sizes.owned {
            account.add(&owned, ours, "many", authority);
            journal.intend(row(&owned, "many")).await.unwrap();
            journal.reached(&owned, Stage::Ready, now_ms()).await.unwrap();
        }
        if number < sizes.orphans {
            let service = if number % 2 == 0 { "many" } else { "gone" };
            account.add(&orphan, ours, service, authority);
            journal.intend(row(&orphan, service)).await.unwrap();
            if number % 2 == 0 {
                let closing = Closing { ended_at_ms: now_ms(), reason: "load fell".into(), cost_micro: 0 };
                journal.close_row(&orphan, closing).await.unwrap();
            }
        }
        if number < sizes.foreign {
            let owner = if number % 2 == 0 { ("test", "another") } else { ("another", "gateway-t") };
            account.add(&format!("foreign-{number}"), owner, "many", authority);
        }
    }
}

#[test]
fn a_sweep_among_many_ends_every_orphan_and_nothing_else() {
    let sizes = sizes();
    let owned = sizes.owned;
    let home = Home::new();
    let mut account = Account::new(&home);
    std::fs::create_dir(home.state_dir()).unwrap();
    leave_behind(&sizes, &home.state_dir(), &mut account, &instances());
    let program = home.file("provider.sh", PROVIDER);
    let spec = Spec::without_services().with(&format!(
        "[service.many.local]\nruntime = 'process'\n\
         command = ['python3', '-m', 'http.server', '--bind', '127.0.0.1', '{{port}}']\n[service.many.burst]\n\
         adapters = ['market']\nmax_replicas = {owned}\n[service.many.scaling]\npolicy = 'threshold'\n\
         min_replicas = {}\nscale_factor = 6000\ninterval = '1s'\n[adapter.market]\nkind = 'exec'\n\
         command = ['sh', '{}']\ntls = false\nfree = true\nlease_ttl = '10m'\n\
         start_timeout = '10m'\n[adapter.market.env]\nACCOUNT = '{}'",
        owned + 1,
        program.display(),
        account.folder.display(),
    ));
    let mut node = home.start_unready(&spec);
    wait_until(SWEEP, "every orphan is gone", || (account.count("orphan-") == 0).then_some(()));
    wait_until(SWEEP, "what is owned is ready", || {
        (node.service("many")["ready_cloud"].as_u64()? == owned as u64).then_some(())
    });
    assert_eq!((account.count("owned-"), account.count("foreign-")), (owned, sizes.foreign));
    let failed = node.events("node.duplicate");
    assert!(failed.is_empty() && node.is_alive(), "{failed:?}");
    // As many terminations more would take long; the leases are not this test's matter.
    node.kill9();
}
