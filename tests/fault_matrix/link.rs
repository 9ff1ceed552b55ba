//! The way from the node to its instances: a TCP proxy in between, which breaks the renewals at which a fault strikes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tidegate::logic::burst::RENEWAL_DEADLINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::DEADLINE_PASSES;
use super::cell::{Fault, Step};
use super::mischief::{Mischief, Point, Strike, kill_self};

/// A lease's answer fits, and its request too.
const BUFFER_BYTES: usize = 16 * 1024;

pub(crate) struct Link {
    mischief: Arc<Mischief>,
    /// From where an instance is to where the node is told that it is.
    ways: Mutex<BTreeMap<String, String>>,
}

impl Link {
    pub(crate) fn new(mischief: Arc<Mischief>) -> Arc<Self> {
        Arc::new(Self { mischief, ways: Mutex::default() })
    }

    /// Where the link to an address begins.
    pub(crate) fn to(self: &Arc<Self>, target: &str) -> String {
        let mut ways = self.ways.lock().expect("ways");
        if let Some(known) = ways.get(target) {
            return known.clone();
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let here = listener.local_addr().expect("an address").to_string();
        let listener = TcpListener::from_std(listener).expect("a listener");
        ways.insert(target.to_owned(), here.clone());
        tokio::spawn(accept(Arc::clone(self), listener, target.to_owned()));
        here
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

async fn accept(link: Arc<Link>, listener: TcpListener, target: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (link, target) = (Arc::clone(&link), target.clone());
        // Whatever breaks is a broken connection to both ends.
        tokio::spawn(async move { pass(&link, stream, &target).await });
    }
}

async fn pass(link: &Link, mut node: TcpStream, target: &str) -> std::io::Result<()> {
    if link.mischief.is_cut_off() {
        return Ok(());
    }
    let strike = link.strike();
    match strike {
        Some(Strike::CutBefore) => return Ok(()),
        Some(Strike::Kill(Point::Before)) => kill_self(),
        Some(Strike::Error(_)) => return answer(&mut node, "500 Internal Server Error", "{}").await,
        Some(Strike::Lie(which)) => return lie(&mut node, which).await,
        _ => {}
    }
    let mut instance = TcpStream::connect(target).await?;
    match strike {
        None => tokio::io::copy_bidirectional(&mut node, &mut instance).await.map(drop),
        Some(Strike::CutDuring(after)) => {
            let both = tokio::io::copy_bidirectional(&mut node, &mut instance);
            let _cut = tokio::time::timeout(after.min(RENEWAL_DEADLINE), both).await;
            Ok(())
        }
        Some(Strike::Kill(Point::During(after))) => {
            let _cut = tokio::time::timeout(after, tokio::io::copy_bidirectional(&mut node, &mut instance)).await;
            kill_self();
            Ok(())
        }
        Some(strike) => {
            let said = exchange(&mut node, &mut instance).await?;
            if strike == Strike::Kill(Point::After) {
                kill_self();
            }
            if strike == Strike::Delay {
                // delay: the answer comes after the deadline of a renewal
                tokio::time::sleep(RENEWAL_DEADLINE + DEADLINE_PASSES).await;
                node.write_all(&said).await?;
            }
            Ok(())
        }
    }
}

/// Passes one request on, and keeps what was answered.
async fn exchange(node: &mut TcpStream, instance: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let length = node.read(&mut buffer).await?;
    instance.write_all(&buffer[..length]).await?;
    let length = instance.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Says that it is ready, that it is going, or nothing that makes sense; the instance hears nothing.
async fn lie(node: &mut TcpStream, which: u32) -> std::io::Result<()> {
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

async fn answer(node: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let mut heard = vec![0; BUFFER_BYTES];
    let _request = node.read(&mut heard).await?;
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    node.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
}
