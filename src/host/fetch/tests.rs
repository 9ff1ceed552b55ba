use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const MODEL: &[u8] = b"the model";

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn ok(bytes: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()).as_bytes(), bytes].concat()
}

/// A server that answers by the path, and how often it was asked.
async fn server(answer: impl Fn(&str, usize) -> Vec<u8> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (base, asked) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let _gone = stream.write_all(&answer(&path, count.fetch_add(1, Ordering::SeqCst))).await;
        }
    });
    (base, asked)
}

async fn fetched(url: &str, sha256: [u8; 32]) -> Result<Vec<u8>, FetchError> {
    fetch(&url.parse().unwrap(), sha256, &Dialer::default()).await
}

#[tokio::test]
async fn a_file_comes_whole_also_by_way_of_another_address() {
    let (base, _) = server(|path, _| match path {
        "/a?v=1" => ok(MODEL),
        "/latest" => b"HTTP/1.1 302 Found\r\nlocation: /a?v=1\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/models/v2" => ok(MODEL),
        _ => b"HTTP/1.1 302 Found\r\nlocation: v2\r\ncontent-length: 0\r\n\r\n".to_vec(),
    })
    .await;
    for path in ["/a?v=1", "/latest", "/models/v2", "/models/newest"] {
        assert_eq!(fetched(&format!("{base}{path}"), digest(MODEL)).await.unwrap(), MODEL, "{path}");
    }
}

#[tokio::test]
async fn another_file_than_the_one_that_is_named_is_not_taken_and_not_asked_for_again() {
    let (base, asked) = server(|_, _| ok(b"something else")).await;
    let error = fetched(&base, digest(MODEL)).await.unwrap_err();
    let found: String = digest(b"something else").iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(error.to_string().contains(&format!("its SHA-256 is {found}")), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_or_fails_is_fetched_again_and_what_is_refused_is_not() {
    let (base, asked) = server(|_, number| match number {
        0 => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec(),
        1 => ok(MODEL)[..45].to_vec(),
        _ => ok(MODEL),
    })
    .await;
    assert_eq!(fetched(&base, digest(MODEL)).await.unwrap(), MODEL);
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    let (base, asked) = server(|_, _| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let error = fetched(&base, digest(MODEL)).await.unwrap_err();
    assert!(error.to_string().contains("answers 404 Not Found: see that the address is right"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_sends_in_a_circle_or_is_no_server_is_told() {
    let (base, _) =
        server(|_, _| b"HTTP/1.1 301 Moved\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    assert!(matches!(fetched(&base, digest(MODEL)).await, Err(FetchError::Redirects(_))));
    let nobody = "http://127.0.0.1:1/model.onnx";
    let error = fetched(nobody, digest(MODEL)).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("{nobody} cannot be fetched: ")), "{error}");
    let error = fetched("ftp://127.0.0.1/model.onnx", digest(MODEL)).await.unwrap_err();
    assert!(error.to_string().contains("begins with http:// or https://"), "{error}");
}
