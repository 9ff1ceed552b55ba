//! The held-out images as requests, and answers as digits.

use bytes::Bytes;
use serde::Deserialize;

/// One image as an inference request, with what it shows.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// The request's body.
    pub(super) body: Bytes,
    /// The digit that it shows.
    pub(super) label: u8,
}

/// All held-out images, in their fixed order.
pub(super) fn all() -> Vec<Image> {
    edge_config::models::heldout().map(|(pixels, label)| Image { body: request(pixels), label }).collect()
}

fn request(pixels: &[u8]) -> Bytes {
    let pixels: Vec<String> = pixels.iter().map(ToString::to_string).collect();
    let data = pixels.join(",");
    Bytes::from(format!(r#"{{"inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[{data}]}}]}}"#))
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f64>,
}

/// The digit that an answer names: the place of the largest logit.
pub(super) fn digit(answer: &[u8]) -> Option<u8> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let logits = &answer.outputs.first()?.data;
    let largest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?.0;
    u8::try_from(largest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_largest_logit_and_nonsense_is_none() {
        assert_eq!(digit(br#"{"outputs":[{"data":[-1.0,0.5,3.25,2]}]}"#), Some(2));
        assert_eq!(digit(b"<html>"), None);
    }

    #[test]
    fn every_held_out_image_is_a_request() {
        let images = all();
        assert!(images.len() >= 300);
        assert!(images.iter().all(|image| serde_json::from_slice::<serde_json::Value>(&image.body).is_ok()));
    }
}
