//! Instances that fetch their model by themselves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::support::{Home, PATIENCE, Spec, wait_until};
use super::wait_for_cloud;

/// A store of files that has the digits model, at this address, and how often it was asked.
fn store() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}/models/digits.onnx", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let model = edge_config::models::DIGITS_ONNX;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", model.len());
            let _request = stream.read(&mut [0; 4096]);
            count.fetch_add(1, Ordering::SeqCst);
            // Whoever went away gets nothing.
            let _gone = stream.write_all(&[head.as_bytes(), model].concat());
        }
    });
    (address, asked)
}

fn digest() -> String {
    Sha256::digest(edge_config::models::DIGITS_ONNX).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_instance_serves_the_model_that_it_has_fetched() {
    let (home, (url, asked)) = (Home::new(), store());
    let burst = format!("[service.digits.burst]\nmodel = '{url}'\nmodel_sha256 = '{}'\nmax_replicas = 1", digest());
    let node = home.start(&Spec::new().with(&burst));
    let load = node.load(8);
    wait_for_cloud(&node, 1);
    let answered = load.answered() + 200;
    wait_until(PATIENCE, "requests are answered", || (load.answered() >= answered).then_some(()));
    let tally = load.stop();
    tally.assert_sound();
    assert!(tally.from("cloud") > 0 && tally.accuracy() > 0.9, "{:?}", tally.answers);
    assert!(asked.load(Ordering::SeqCst) >= 1, "nobody fetched it");
    assert_eq!(node.terminate().code, Some(0));
    home.assert_empty_within(PATIENCE);
}

#[test]
fn a_model_is_fetched_only_with_a_digest_and_only_if_it_has_it() {
    let (home, (url, _)) = (Home::new(), store());
    let check = |arguments: &[&str]| home.command(&[&["model", "check", &url], arguments].concat());
    let good = check(&["--sha256", &digest()]);
    assert_eq!((good.code, good.stdout.trim()), (Some(0), format!("ok: {url}").as_str()), "{good:?}");
    let without = check(&[]);
    assert_eq!(without.code, Some(2));
    assert!(without.stderr.contains("only with --sha256") && without.stderr.contains("sha256sum"), "{without:?}");
    let other = check(&["--sha256", &"0".repeat(64)]);
    assert!(other.code == Some(2) && other.stderr.contains(&format!("its SHA-256 is {}", digest())), "{other:?}");
    let short = check(&["--sha256", "0123"]);
    assert!(short.code == Some(2) && short.stderr.contains("64 hexadecimal digits"), "{short:?}");
}
