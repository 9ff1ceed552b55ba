//! The Open Inference Protocol through the gateway, spoken by Triton's own client, with images that the model never saw.

mod support;

use support::{Home, Spec, python};

#[test]
fn tritons_client_is_answered_rightly_in_json_and_in_binary() {
    let home = Home::new();
    let node = home.start(&Spec::new());
    let images = home.file("heldout.bin", edge_config::models::DIGITS_HELDOUT);
    let mut command = python::script("oip/triton_client.py");
    let output = command.args([&node.addresses.gateway, "digits"]).arg(images).output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaint}");
    println!("{said}");
}
