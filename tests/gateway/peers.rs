//! Two gateways of one fleet: overflow goes to the other one over a connection that both know, at once or not at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use tempfile::TempDir;
use tidegate::gateway::{GatewayOptions, ServiceOptions};
use tidegate::logic::route::{Endpoint, EndpointCounters, Placement, PublicKeyPin, Transport};
use tidegate::tls::{Dialer, FleetIdentity, PeerAcceptor, Unwelcome};
use tidegate::trust::{Authority, Credential, EARLIEST, Role, Subject, Verifier};
use tidegate::wire::{Encoding, Root};
use tokio::net::TcpListener;

use super::support::{Node, Told, endpoint, eventually, full, gated, metrics, named, replica, service};

const NOW: u64 = EARLIEST + 86_400;
const PATH: &str = "/services/digits/x?y=1";

/// A fleet's root, and what it issues.
struct Fleet {
    authority: Authority,
    verifier: Arc<Verifier>,
    _folder: TempDir,
}

impl Fleet {
    fn found(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let authority = Authority::found(folder.path(), name, NOW).expect("a fleet");
        let root = Root::new(Encoding::Cbor, name).expect("a name");
        let sealed = authority.trust_message().expect("a message");
        let verifier = Arc::new(Verifier::new(root, authority.anchors().clone(), sealed));
        Self { authority, verifier, _folder: folder }
    }

    fn enroll(&self, name: &str, role: Role) -> Arc<Credential> {
        let fleet = self.authority.fleet().to_owned();
        let subject = Subject { fleet, name: name.into(), role, hosts: Vec::new() };
        Arc::new(self.authority.enroll(&subject, 86_400 * 30, NOW).expect("a credential"))
    }

    fn node(&self, name: &str) -> Arc<Credential> {
        self.enroll(name, Role::Node)
    }
}

/// A node's credential, and whom it lets in.
struct Own {
    credential: Arc<Credential>,
    verifier: Arc<Verifier>,
    is_open: Arc<AtomicBool>,
}

impl FleetIdentity for Own {
    fn own(&self) -> (Vec<Vec<u8>>, String) {
        (self.credential.chain().to_vec(), self.credential.key_pem())
    }

    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Unwelcome> {
        let holder = self.verifier.holder(chain, NOW).map_err(|_| Unwelcome::Foreign)?;
        let is_let_in = holder.role == Role::Node && self.is_open.load(Ordering::SeqCst);
        is_let_in.then_some(()).ok_or(Unwelcome::Revoked)
    }
}

fn dialer(fleet: &Fleet, credential: &Arc<Credential>) -> Dialer {
    let (credential, verifier, is_open) = (credential.clone(), fleet.verifier.clone(), Arc::default());
    Dialer::default().showing(Arc::new(Own { credential, verifier, is_open }))
}

/// A gateway that takes guests, where they come in, and whether they are let in.
struct Away {
    node: Node,
    addr: SocketAddr,
    pin: PublicKeyPin,
    is_open: Arc<AtomicBool>,
}

impl Away {
    async fn start(fleet: &Fleet, name: &str, endpoints: &[Arc<Endpoint>]) -> Self {
        let options = ServiceOptions { guests: true, ..service("digits") };
        Self::with(fleet, name, options, GatewayOptions::default(), endpoints).await
    }

    async fn with(
        fleet: &Fleet,
        name: &str,
        service: ServiceOptions,
        options: GatewayOptions,
        endpoints: &[Arc<Endpoint>],
    ) -> Self {
        let node = Node::with(options, vec![service]).await;
        node.route("digits", endpoints);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let credential = fleet.node(name);
        let (verifier, is_open) = (fleet.verifier.clone(), Arc::new(AtomicBool::new(true)));
        let own = Own { credential: credential.clone(), verifier, is_open: is_open.clone() };
        let acceptor = PeerAcceptor::new(Arc::new(own)).expect("TLS");
        tokio::spawn(Arc::clone(&node.gateway).serve_peers(listener, acceptor, std::future::pending()));
        Self { node, addr, pin: credential.facts().pin(), is_open }
    }

    fn endpoint(&self, name: &str, room: u32) -> Arc<Endpoint> {
        peer(name, self.addr, self.pin, room)
    }
}

fn peer(name: &str, addr: SocketAddr, pin: PublicKeyPin, room: u32) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        replica: name.into(),
        placement: Placement::Peer,
        authority: addr.to_string(),
        transport: Transport::Peer(pin),
        bearer: None,
        concurrency: room,
        weight: 1,
        counters: EndpointCounters::default(),
    })
}

/// A gateway that shows this credential to others.
async fn home(fleet: &Fleet, credential: &Arc<Credential>, endpoints: &[Arc<Endpoint>]) -> Node {
    let options = GatewayOptions { dialer: dialer(fleet, credential), ..GatewayOptions::default() };
    let node = Node::with(options, vec![service("digits")]).await;
    node.route("digits", endpoints);
    node
}

fn said(told: &Told) -> (u16, &str, &str, &str) {
    (told.status.as_u16(), told.header("x-tidegate-placement"), told.header("x-tidegate-replica"), told.text())
}

/// A replica that says what it was asked.
async fn telling() -> SocketAddr {
    replica(|request| async move {
        let header =
            |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().expect("text")).to_owned();
        let path = request.uri().path_and_query().expect("a path").to_string();
        let names = ["x-forwarded-prefix", "x-forwarded-host", "x-tidegate-hops", "x-tidegate-authorization"];
        let told = [path].into_iter().chain(names.map(header)).collect::<Vec<_>>().join(" ");
        Response::new(full(told))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn overflow_goes_to_another_node_and_what_fits_stays_here() {
    let fleet = Fleet::found("test");
    let away = Away::start(&fleet, "gw-b", &[endpoint("b-1", telling().await, 4)]).await;
    let (busy, gate) = gated().await;
    let node = home(&fleet, &fleet.node("gw-a"), &[endpoint("a-1", busy, 1), away.endpoint("gw-b", 2)]).await;

    let first = node.posting(PATH);
    gate.arrival().await;
    let over = node.post(PATH, "x").await;
    let host = format!("/x?y=1 /services/digits {} - -", node.addr);
    assert_eq!(said(&over), (200, "peer", "gw-b", host.as_str()));
    gate.let_through(1);
    assert_eq!(said(&first.await.expect("an answer")), (200, "local", "a-1", "late"));

    let (here, there) = (node.reading("digits"), away.node.reading("digits"));
    assert_eq!((here.arrivals, there.arrivals), (2, 0), "a guest is no load of the node that answers it");
    let metrics = metrics().render();
    assert!(metrics.contains("tidegate_guest_requests_total{service=\"digits\",code=\"200\"}"), "{metrics}");
    assert!(metrics.contains("placement=\"peer\",code=\"200\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_full_says_so_at_once_and_the_request_waits_at_home() {
    let fleet = Fleet::found("test");
    let (own, away_gate) = gated().await;
    // Two of four slots are for guests, and its own requests have them.
    let away = Away::start(&fleet, "gw-b", &[endpoint("b-1", own, 4)]).await;
    let its_own = [away.node.posting(PATH), away.node.posting(PATH)];
    away_gate.arrival().await;
    away_gate.arrival().await;

    let (busy, gate) = gated().await;
    let other = away.endpoint("gw-b", 2);
    let node = home(&fleet, &fleet.node("gw-a"), &[endpoint("a-1", busy, 1), other.clone()]).await;
    let first = node.posting(PATH);
    gate.arrival().await;
    let second = node.posting(PATH);
    eventually("it was declined", || other.counters.ejected_until().is_some()).await;
    assert_eq!(other.counters.failed(), 0, "to be full is no failure");
    gate.let_through(1);
    gate.arrival().await;
    gate.let_through(1);
    for answer in [first, second] {
        assert_eq!(said(&answer.await.expect("an answer")), (200, "local", "a-1", "late"));
    }
    away_gate.let_through(2);
    for answer in its_own {
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    assert!(metrics().render().contains("tidegate_guest_requests_total{service=\"digits\",code=\"429\"}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_not_carried_from_node_to_node() {
    let fleet = Fleet::found("test");
    let third = Away::start(&fleet, "gw-c", &[endpoint("c-1", named("c-1").await, 4)]).await;
    let (busy, gate) = gated().await;
    let options = GatewayOptions { dialer: dialer(&fleet, &fleet.node("gw-b")), ..GatewayOptions::default() };
    let guests = ServiceOptions { guests: true, ..service("digits") };
    let second =
        Away::with(&fleet, "gw-b", guests, options, &[endpoint("b-1", busy, 1), third.endpoint("gw-c", 4)]).await;
    let its_own = second.node.posting(PATH);
    gate.arrival().await;
    // It would go on to the third by itself, were it a client's.
    assert_eq!(said(&second.node.post(PATH, "x").await), (200, "peer", "gw-c", "c-1"));

    let node = home(&fleet, &fleet.node("gw-a"), &[second.endpoint("gw-b", 4)]).await;
    let request = node.request("POST", PATH).header("x-tidegate-deadline-ms", "300");
    let declined = node.tell(request.body(full("x")).expect("a request")).await;
    assert_eq!((declined.status.as_u16(), declined.problem().as_str()), (429, "declined"));
    assert!(declined.headers.contains_key("retry-after") && !declined.headers.contains_key("x-tidegate-declined"));

    // Nor where it comes by the front door, from a proxy that another node was mistaken for.
    let request =
        second.node.request("POST", PATH).header("x-tidegate-hops", "1").header("x-tidegate-deadline-ms", "300");
    let stayed = second.node.tell(request.body(full("x")).expect("a request")).await;
    assert_eq!(stayed.problem(), "queue-expired");
    gate.let_through(1);
    assert_eq!(its_own.await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_node_of_the_fleet_is_not_let_in_and_the_request_goes_on() {
    let (fleet, foreign) = (Fleet::found("test"), Fleet::found("other"));
    let away = Away::start(&fleet, "gw-b", &[endpoint("b-1", named("b-1").await, 4)]).await;
    let strangers = [foreign.node("gw-a"), fleet.enroll("olga", Role::Operator)];
    for stranger in strangers {
        let (busy, gate) = gated().await;
        let there = away.endpoint("gw-b", 4);
        let node = home(&fleet, &stranger, &[endpoint("a-1", busy, 1), there.clone()]).await;
        let first = node.posting(PATH);
        gate.arrival().await;
        // Not one that may be repeated: it was written before the other end refused us, and read by nobody.
        let second = node.posting(PATH);
        eventually("it was refused", || there.counters.failed() == 1).await;
        gate.let_through(2);
        for answer in [first, second] {
            assert_eq!(said(&answer.await.expect("an answer")), (200, "local", "a-1", "late"));
        }
    }
    // The other way round: somebody else at the address of a node.
    let impostor = Away::start(&fleet, "gw-c", &[endpoint("c-1", named("c-1").await, 4)]).await;
    let node = home(&fleet, &fleet.node("gw-a"), &[peer("gw-b", impostor.addr, away.pin, 4)]).await;
    let told = node.post(PATH, "x").await;
    assert!(told.status == 502 && told.text().contains("another key than the expected one"), "{}", told.text());
    let bare = Node::serving("digits", &[away.endpoint("gw-b", 4)]).await;
    assert!(bare.post(PATH, "x").await.text().contains("set node.credentials"));
    assert!(metrics().render().contains("tidegate_peer_connections_refused_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_put_out_is_refused_on_the_connection_that_it_has() {
    let fleet = Fleet::found("test");
    let away = Away::start(&fleet, "gw-b", &[endpoint("b-1", named("b-1").await, 4)]).await;
    let node = home(&fleet, &fleet.node("gw-a"), &[away.endpoint("gw-b", 4)]).await;
    assert_eq!(node.post(PATH, "x").await.status, 200);
    away.is_open.store(false, Ordering::SeqCst);
    let request = node.request("POST", PATH).header("x-tidegate-deadline-ms", "300");
    let refused = node.tell(request.body(full("x")).expect("a request")).await;
    assert_ne!(refused.status, 200);
    assert_eq!(away.node.reading("digits").arrivals, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_sent_twice_waits_here() {
    let fleet = Fleet::found("test");
    let away = Away::start(&fleet, "gw-b", &[endpoint("b-1", named("b-1").await, 4)]).await;
    let (busy, gate) = gated().await;
    let node = home(&fleet, &fleet.node("gw-a"), &[endpoint("a-1", busy, 1), away.endpoint("gw-b", 2)]).await;
    let first = node.posting(PATH);
    gate.arrival().await;
    let large = node.request("POST", PATH).body(full(vec![0_u8; 300 * 1024])).expect("a request");
    let large = node.sending(large);
    eventually("it waits", || node.reading("digits").queued == 1).await;
    gate.let_through(2);
    for answer in [first, large] {
        assert_eq!(said(&answer.await.expect("an answer")), (200, "local", "a-1", "late"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_does_not_have_or_keeps_to_itself_is_declined() {
    let fleet = Fleet::found("test");
    let private = ServiceOptions { guests: false, ..service("digits") };
    let keeps = Away::with(&fleet, "gw-b", private, GatewayOptions::default(), &[]).await;
    let empty = Away::start(&fleet, "gw-c", &[]).await;
    let own = endpoint("a-1", named("a-1").await, 1);
    for away in [keeps, empty] {
        let (busy, gate) = gated().await;
        let node = home(&fleet, &fleet.node("gw-a"), &[endpoint("a-0", busy, 1), away.endpoint("gw-x", 2)]).await;
        let first = node.posting(PATH);
        gate.arrival().await;
        let second = node.posting(PATH);
        let there = away.endpoint("gw-x", 2);
        eventually("it waits for a second try", || node.gateway.in_flight() == 2).await;
        node.route("digits", &[own.clone(), there]);
        assert_eq!(said(&second.await.expect("an answer")), (200, "local", "a-1", "a-1"));
        gate.let_through(1);
        assert_eq!(first.await.expect("an answer").status, 200);
    }
}
