//! The way from the node to its instances: a proxy in between, which breaks the renewals at which a fault strikes. Where
//! the way is secured it has the launch's own key, so that faults strike calls and not handshakes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use std::path::PathBuf;

use cloud_adapters::{LaunchId, Reach};
use tidegate::logic::burst::RENEWAL_DEADLINE;
use tidegate::logic::route::Transport;
use tidegate::tls::{Acceptor, Channel, Dialer, LaunchIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::DEADLINE_PASSES;
use super::cell::{Fault, Step};
use super::mischief::{Mischief, Point, Strike, kill_self};

/// A lease's answer fits, and its request too.
const BUFFER_BYTES: usize = 16 * 1024;

pub(crate) struct Link {
    mischief: Arc<Mischief>,
    secret: Vec<u8>,
    /// For the files of keys.
    home: PathBuf,
    /// From where an instance is to where the node is told that it is.
    ways: Mutex<BTreeMap<String, String>>,
}

impl Link {
    pub(crate) fn new(mischief: Arc<Mischief>, secret: Vec<u8>, home: PathBuf) -> Arc<Self> {
        Arc::new(Self { mischief, secret, home, ways: Mutex::default() })
    }

    /// Where the link to an instance begins.
    pub(crate) fn to(self: &Arc<Self>, launch: &LaunchId, reach: &Reach) -> String {
        let target = reach.authority();
        let mut ways = self.ways.lock().expect("ways");
        if let Some(known) = ways.get(target) {
            return known.clone();
        }
        let ends = matches!(reach, Reach::Direct { .. }).then(|| self.ends(launch));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let here = listener.local_addr().expect("an address").to_string();
        let listener = TcpListener::from_std(listener).expect("a listener");
        ways.insert(target.to_owned(), here.clone());
        tokio::spawn(accept(Arc::clone(self), listener, Arc::new(Way { target: target.to_owned(), ends })));
        here
    }

    fn ends(&self, launch: &LaunchId) -> Ends {
        let identity = LaunchIdentity::derive(&self.secret, launch.as_str()).expect("an identity");
        let file = |ending: &str, text: String| {
            let path = self.home.join(format!("link-{launch}.{ending}"));
            std::fs::write(&path, text).expect("write");
            path
        };
        let (certificate, key) = (file("crt", identity.certificate_pem()), file("key", identity.key_pem()));
        let acceptor = Acceptor::from_files(&certificate, &key).expect("a pair");
        Ends { acceptor, dialer: Dialer::default(), transport: Transport::Pinned(identity.pin()) }
    }

    /// Where a link leads that begins at an address.
    pub(crate) fn behind(&self, here: &str) -> String {
        let ways = self.ways.lock().expect("ways");
        let way = ways.iter().find(|(_, begins)| *begins == here);
        way.map_or_else(|| here.to_owned(), |(target, _)| target.clone())
    }

    /// What is to go wrong with a connection that was just made.
    fn strike(&self) -> Option<Strike> {
        let mischief = &self.mischief;
        let is_set = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::SeqCst);
        if mischief.cell.is(Step::Register, Fault::Lie) {
            // The provider is only asked about an instance that does not answer.
            return (is_set(&mischief.registered) && mischief.is_armed()).then_some(Strike::CutBefore);
        }
        if is_set(&mischief.ending) {
            return None;
        }
        mischief.at_call(if is_set(&mischief.ready) { Step::Renew } else { Step::Ready })
    }
}

/// From here to one instance.
struct Way {
    target: String,
    /// Where it is secured.
    ends: Option<Ends>,
}

/// What the link shows to the node and asks of the instance.
struct Ends {
    acceptor: Acceptor,
    dialer: Dialer,
    transport: Transport,
}

impl Way {
    async fn end_at_node(&self, stream: TcpStream) -> std::io::Result<Channel> {
        match &self.ends {
            Some(ends) => ends.acceptor.accept(stream).await,
            None => Ok(Channel::Plain(stream)),
        }
    }

    async fn end_at_instance(&self) -> std::io::Result<Channel> {
        let stream = TcpStream::connect(&self.target).await?;
        let Some(Ends { dialer, transport, .. }) = &self.ends else { return Ok(Channel::Plain(stream)) };
        let secured = dialer.secure(stream, "instance", transport, RENEWAL_DEADLINE).await;
        secured.map_err(std::io::Error::other)
    }
}

async fn accept(link: Arc<Link>, listener: TcpListener, way: Arc<Way>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (link, way) = (Arc::clone(&link), Arc::clone(&way));
        // Whatever breaks is a broken connection to both ends.
        tokio::spawn(async move { pass(&link, stream, &way).await });
    }
}

async fn pass(link: &Link, node: TcpStream, way: &Way) -> std::io::Result<()> {
    if link.mischief.is_cut_off() {
        return Ok(());
    }
    let strike = link.strike();
    let passed = pass_struck(strike, node, way).await;
    if matches!(strike, Some(Strike::Kill(_))) {
        // Also where the instance was not there to answer.
        kill_self();
    }
    passed
}

async fn pass_struck(strike: Option<Strike>, node: TcpStream, way: &Way) -> std::io::Result<()> {
    if let Some(Strike::CutBefore | Strike::Kill(Point::Before)) = strike {
        return Ok(());
    }
    let mut node = way.end_at_node(node).await?;
    match strike {
        Some(Strike::Error(_)) => return answer(&mut node, "500 Internal Server Error", "{}").await,
        Some(Strike::Lie(which)) => return lie(&mut node, which).await,
        _ => {}
    }
    let mut instance = way.end_at_instance().await?;
    match strike {
        None => tokio::io::copy_bidirectional(&mut node, &mut instance).await.map(drop),
        Some(Strike::CutDuring(after)) => {
            let both = tokio::io::copy_bidirectional(&mut node, &mut instance);
            let _cut = tokio::time::timeout(after.min(RENEWAL_DEADLINE), both).await;
            Ok(())
        }
        Some(Strike::Kill(Point::During(after))) => {
            let _cut = tokio::time::timeout(after, tokio::io::copy_bidirectional(&mut node, &mut instance)).await;
            Ok(())
        }
        Some(strike) => {
            let said = exchange(&mut node, &mut instance).await?;
            if strike == Strike::Delay {
                // delay: the answer comes after the deadline of a renewal
                tokio::time::sleep(RENEWAL_DEADLINE + DEADLINE_PASSES).await;
                send(&mut node, &said).await?;
            }
            Ok(())
        }
    }
}

/// Passes one request on, and keeps what was answered.
async fn exchange(node: &mut Channel, instance: &mut Channel) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let length = node.read(&mut buffer).await?;
    send(instance, &buffer[..length]).await?;
    let length = instance.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

async fn send(to: &mut Channel, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Says that it is ready, that it is going, or nothing that makes sense; the instance hears nothing.
async fn lie(node: &mut Channel, which: u32) -> std::io::Result<()> {
    let status = |state: &str| {
        format!(
            r#"{{"launch":"x","service":"matrix","state":"{state}","remaining_ms":60000,"in_flight":0,"served":0}}"#
        )
    };
    let body = match which % 3 {
        0 => status("ready"),
        1 => status("draining"),
        _ => "<html>captive portal</html>".to_owned(),
    };
    answer(node, "200 OK", &body).await
}

async fn answer(node: &mut Channel, status: &str, body: &str) -> std::io::Result<()> {
    let mut heard = vec![0; BUFFER_BYTES];
    let _request = node.read(&mut heard).await?;
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    send(node, &[head.as_bytes(), body.as_bytes()].concat()).await
}
