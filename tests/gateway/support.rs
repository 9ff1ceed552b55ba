//! Real parts for the gateway's tests: replicas that do as they are told, a gateway on a free port, a client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tidegate::gateway::{Gateway, GatewayOptions, ServiceOptions};
use tidegate::logic::load::{CounterReading, ServiceCounters};
use tidegate::logic::route::{
    Balance, Bearer, Endpoint, EndpointCounters, Placement, RouteTable, ServiceRoute, Transport,
};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Far above what any step takes; only a test that hangs meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type TestBody = BoxBody<Bytes, Infallible>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).boxed()
}

/// A body that is fed while it is on its way.
pub(crate) fn fed() -> (mpsc::Sender<Bytes>, TestBody) {
    let (feed, fed) = mpsc::channel(1);
    (feed, Fed(fed).boxed())
}

struct Fed(mpsc::Receiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Serves `handler` on a free port until the test ends.
pub(crate) async fn replica<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<TestBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    addr
}

/// A replica that answers at once with its name.
pub(crate) async fn named(name: &'static str) -> SocketAddr {
    replica(move |_| async move { Response::new(full(name)) }).await
}

/// A replica that answers each request when it is let.
pub(crate) async fn gated() -> (SocketAddr, Arc<Gate>) {
    let gate = Arc::new(Gate { arrived: Semaphore::new(0), open: Semaphore::new(0) });
    let inner = Arc::clone(&gate);
    let addr = replica(move |request| {
        let gate = Arc::clone(&inner);
        async move {
            gate.arrived.add_permits(1);
            gate.open.acquire().await.expect("open").forget();
            // To its end: who answers before and goes breaks the connection of who still sends.
            let _whole = request.into_body().collect().await;
            Response::new(full("late"))
        }
    });
    (addr.await, gate)
}

/// What holds a gated replica.
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    /// Waits until one more request has arrived.
    pub(crate) async fn arrival(&self) {
        within(self.arrived.acquire()).await.expect("open").forget();
    }

    pub(crate) fn let_through(&self, requests: usize) {
        self.open.add_permits(requests);
    }
}

/// An address where nothing listens.
pub(crate) async fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address")
}

pub(crate) fn endpoint(replica: &str, addr: SocketAddr, concurrency: u32) -> Arc<Endpoint> {
    placed(replica, addr, concurrency, Placement::Local)
}

pub(crate) fn placed(replica: &str, addr: SocketAddr, concurrency: u32, placement: Placement) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        replica: replica.into(),
        placement,
        authority: addr.to_string(),
        transport: Transport::Plain,
        bearer: (placement == Placement::Cloud).then(|| Bearer::new("launch-secret")),
        concurrency,
        weight: 1,
        counters: EndpointCounters::default(),
    })
}

pub(crate) fn service(name: &str) -> ServiceOptions {
    ServiceOptions {
        guests: false,
        name: name.into(),
        queue: 100,
        request_timeout: PATIENCE,
        max_body_bytes: 64 * 1024 * 1024,
        repeatable: false,
        balance: Balance::RoundRobin,
        by_message: false,
    }
}

/// A gateway that serves, with one client.
pub(crate) struct Node {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) addr: SocketAddr,
    pub(crate) served: JoinHandle<usize>,
    pub(crate) shutdown: oneshot::Sender<()>,
    epoch: Instant,
    client: Client<HttpConnector, TestBody>,
}

impl Node {
    pub(crate) async fn start(services: Vec<ServiceOptions>) -> Self {
        Self::with(GatewayOptions::default(), services).await
    }

    pub(crate) async fn with(options: GatewayOptions, services: Vec<ServiceOptions>) -> Self {
        metrics();
        let epoch = Instant::now();
        let gateway = Gateway::new(options, services, epoch);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (shutdown, told) = oneshot::channel::<()>();
        let served = tokio::spawn(Arc::clone(&gateway).serve(listener, async {
            let _ = told.await;
        }));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { gateway, addr, served, shutdown, epoch, client }
    }

    /// A gateway for one service of that name with these endpoints.
    pub(crate) async fn serving(name: &str, endpoints: &[Arc<Endpoint>]) -> Self {
        let node = Self::start(vec![service(name)]).await;
        node.route(name, endpoints);
        node
    }

    pub(crate) fn route(&self, name: &str, endpoints: &[Arc<Endpoint>]) {
        let route = ServiceRoute { name: name.into(), endpoints: endpoints.to_vec() };
        self.gateway.install(RouteTable { services: [(name.to_owned(), Arc::new(route))].into() });
    }

    pub(crate) fn counters(&self, name: &str) -> Arc<ServiceCounters> {
        self.gateway.counters(name).expect("a service")
    }

    pub(crate) fn reading(&self, name: &str) -> CounterReading {
        self.counters(name).read(self.epoch.elapsed())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.addr))
    }

    pub(crate) async fn send(&self, request: Request<TestBody>) -> Response<Incoming> {
        within(self.client.request(request)).await.expect("an answer")
    }

    /// Sends in the background.
    pub(crate) fn sending(&self, request: Request<TestBody>) -> JoinHandle<Told> {
        let client = self.client.clone();
        tokio::spawn(async move { Told::of(client.request(request).await.expect("an answer")).await })
    }

    pub(crate) async fn tell(&self, request: Request<TestBody>) -> Told {
        Told::of(self.send(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Told {
        self.tell(self.request("GET", path).body(full("")).expect("a request")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &'static str) -> Told {
        self.tell(self.request("POST", path).body(full(body)).expect("a request")).await
    }

    pub(crate) fn posting(&self, path: &str) -> JoinHandle<Told> {
        self.sending(self.request("POST", path).body(full("x")).expect("a request"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Told {
    pub(crate) async fn of(answer: Response<Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        let body = within(body.collect()).await.expect("a whole body").to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The problem's slug; the whole answer is checked to be a problem.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["error"], problem["detail"]);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem["type"].as_str().expect("a type").strip_prefix("urn:tidegate:problem:").expect("our type").to_owned()
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes far less time")
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(1));
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        look.tick().await;
    }
}

/// The process's metrics; the recorder is installed on first use.
pub(crate) fn metrics() -> &'static PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("no other recorder"))
}

/// More bytes than fit on the way, so that they are still being sent when the answer is there.
pub(crate) const MUCH: usize = 24 << 20;

/// Sends all of it, as a client does that listens only afterwards; then the beginning of the answer.
pub(crate) async fn sent_whole(to: SocketAddr, head: String, more: usize) -> std::io::Result<[u8; 12]> {
    use std::io::{Read, Write};
    let client = tokio::task::spawn_blocking(move || {
        let mut client = std::net::TcpStream::connect(to)?;
        client.write_all(head.as_bytes())?;
        let part = vec![b'x'; 1 << 20];
        (0..more / part.len()).try_for_each(|_| client.write_all(&part))?;
        let mut answer = [0; 12];
        client.read_exact(&mut answer)?;
        Ok(answer)
    });
    client.await.expect("no panic")
}
