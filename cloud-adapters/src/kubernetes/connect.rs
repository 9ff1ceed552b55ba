//! The client of the API server: credentials, TLS, deadlines, and the size of what is read. The one file that knows the
//! crate `kube`.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Pod;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::call::{Answer, Call, Transport};
use super::clock;
use super::objects::PORT;
use super::options::KubernetesOptions;
use crate::AdapterError;

/// How long one call may take. An API server gives itself 60 s, but one that needs 15 is no help to a burst.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read: a page of 250 Jobs is about one megabyte, and those with large environments ten.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The way to the cluster of the options. Nothing is read and nothing is opened before the first call.
pub fn connect(options: &KubernetesOptions) -> Transport {
    let cluster = Arc::new(Cluster { options: options.clone(), client: Mutex::new(None) });
    let forwarding = Arc::clone(&cluster);
    Transport {
        ask: Arc::new(move |call| {
            let cluster = Arc::clone(&cluster);
            Box::pin(async move { cluster.ask(call).await })
        }),
        forward: Arc::new(move |pod| {
            let cluster = Arc::clone(&forwarding);
            Box::pin(async move { cluster.forward(pod).await })
        }),
    }
}

struct Cluster {
    options: KubernetesOptions,
    client: Mutex<Option<Client>>,
}

impl Cluster {
    async fn ask(&self, call: Call) -> Result<Answer, AdapterError> {
        let client = self.client().await?;
        let asked = timeout(CALL_TIMEOUT, send(&client, &call)).await;
        let answer = match asked {
            Err(_) => {
                Err(AdapterError::transient(format!("{call:?} got no answer within {CALL_TIMEOUT:?}; ask again")))
            }
            Ok(Err(cause)) => Err(self.no_answer(&call, cause)),
            Ok(Ok(answer)) => Ok(answer),
        }?;
        if answer.status == 401 {
            // Credentials that were renewed since are read by the next call.
            *self.client.lock().await = None;
        }
        Ok(answer)
    }

    async fn client(&self) -> Result<Client, AdapterError> {
        let mut client = self.client.lock().await;
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let made = self.make().await?;
        Ok(client.insert(made).clone())
    }

    async fn make(&self) -> Result<Client, AdapterError> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Retries are the caller's, who knows how much time is left.
        config.default_retry = false;
        let builder = ClientBuilder::try_from(config).map_err(|error| {
            let name = &self.options.name;
            AdapterError::bad_configuration(format!("adapter `{name}` cannot use its kubeconfig's credentials"))
                .because(error)
        })?;
        Ok(builder.build())
    }

    async fn config(&self) -> Result<Config, AdapterError> {
        let KubernetesOptions { name, kubeconfig, context, .. } = &self.options;
        let chosen = KubeConfigOptions { context: context.clone(), cluster: None, user: None };
        if let Some(path) = kubeconfig {
            let wrong = |error| {
                let (path, context) = (path.display(), context.as_deref().unwrap_or("current"));
                AdapterError::bad_configuration(format!(
                    "adapter `{name}` cannot use the kubeconfig {path} (context {context}): see that `kubectl \
                     --kubeconfig {path} config get-contexts` shows it"
                ))
                .because(error)
            };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            return Config::from_custom_kubeconfig(file, &chosen).await.map_err(wrong);
        }
        if context.is_some() {
            return Config::from_kubeconfig(&chosen).await.map_err(|error| {
                let words = format!("adapter `{name}` finds no kubeconfig with its context: set kubeconfig");
                AdapterError::bad_configuration(words).because(error)
            });
        }
        Config::infer().await.map_err(|error| {
            let words = format!("adapter `{name}` finds no kubeconfig, and runs in no cluster: set kubeconfig");
            AdapterError::bad_configuration(words).because(error)
        })
    }

    /// A call without an answer. A certificate that does not hold is for a person; anything else may pass.
    fn no_answer(&self, call: &Call, cause: Cause) -> AdapterError {
        let name = &self.options.name;
        if is_about_certificates(&*cause) {
            let words = format!(
                "adapter `{name}` and its API server do not trust each other's certificate: renew the kubeconfig"
            );
            return AdapterError::bad_configuration(words).because(cause);
        }
        AdapterError::transient(format!("adapter `{name}` got no answer to {call:?}; ask again")).because(cause)
    }

    async fn forward(&self, pod: String) -> Result<DuplexStream, AdapterError> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, &self.options.namespace);
        let opening = timeout(CALL_TIMEOUT, pods.portforward(&pod, &[PORT])).await;
        let opened = opening.map_err(|_| AdapterError::transient(format!("a port-forward to {pod} got no answer")))?;
        let mut forwarder = opened
            .map_err(|error| AdapterError::transient(format!("cannot open a port-forward to {pod}")).because(error))?;
        let (stream, error) = (forwarder.take_stream(PORT), forwarder.take_error(PORT));
        if let Some(error) = error {
            tokio::spawn(async move {
                if let Some(error) = error.await {
                    tracing::warn!(%pod, %error, "a port-forward ended");
                }
            });
        }
        stream.ok_or_else(|| AdapterError::transient("a port-forward came without its port"))
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn send(client: &Client, call: &Call) -> Result<Answer, Cause> {
    let body = call.body.as_ref().map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request = http::Request::builder()
        .method(call.method())
        .uri(call.target())
        .header(http::header::ACCEPT, call.accepts())
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))?;
    let response = client.send(request).await?;
    let status = response.status().as_u16();
    let date =
        response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok()).and_then(clock::of_header);
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Answer { status, now: date, body: parse(status, &body)? })
}

/// What is no JSON is an answer only where it is an error: proxies write theirs as they like.
fn parse(status: u16, body: &[u8]) -> Result<Value, Cause> {
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) if status >= 300 => Ok(json!({ "message": String::from_utf8_lossy(body) })),
        Err(error) => Err(error.into()),
    }
}

fn is_about_certificates(cause: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(cause), |error| error.source()).any(|error| {
        let text = error.to_string().to_ascii_lowercase();
        text.contains("certificate") || text.contains("unknown ca")
    })
}
