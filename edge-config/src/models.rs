//! The model and the images that are compiled in, so that a fresh box has something real to run.
//!
//! `models/digits/` also holds the script that trained the model and wrote the images. The images are held out: the
//! model saw none of them in training.

/// The digits classifier as ONNX: input `image` FP32 `[n,1,8,8]` in 0–16, output `logits` FP32 `[n,10]`.
pub const DIGITS_ONNX: &[u8] = include_bytes!("../models/digits/digits.onnx");

/// The held-out images: records of 65 bytes, 64 pixels (0–16, row by row) and the digit that they show.
pub const DIGITS_HELDOUT: &[u8] = include_bytes!("../models/digits/heldout.bin");

/// Pixels of one image, 8 rows of 8.
pub const DIGITS_PIXELS: usize = 64;

/// The held-out images with the digit that each shows (0–9); pixels are 0–16, row by row.
pub fn heldout() -> impl ExactSizeIterator<Item = (&'static [u8; DIGITS_PIXELS], u8)> {
    records(DIGITS_HELDOUT)
}

fn records(bytes: &'static [u8]) -> impl ExactSizeIterator<Item = (&'static [u8; DIGITS_PIXELS], u8)> {
    let (records, _rest) = bytes.as_chunks::<{ DIGITS_PIXELS + 1 }>();
    records.iter().map(|record| {
        let (pixels, label) = record.split_first_chunk().expect("a record is longer than its pixels");
        (pixels, label[0])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_pixels_and_then_its_label() {
        static BYTES: [u8; 130] = {
            let mut bytes = [7; 130];
            bytes[64] = 3;
            bytes[65] = 16;
            bytes[129] = 9;
            bytes
        };
        let read: Vec<_> = records(&BYTES).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0[63], read[0].1), (7, 3));
        assert_eq!((read[1].0[0], read[1].1), (16, 9));
    }

    #[test]
    fn the_shipped_images_are_whole_records_of_allowed_values() {
        assert_eq!(DIGITS_HELDOUT.len() % (DIGITS_PIXELS + 1), 0, "heldout.bin ends in the middle of a record");
        assert!(heldout().len() > 0);
        for (index, (pixels, label)) in heldout().enumerate() {
            assert!(pixels.iter().all(|pixel| *pixel <= 16), "image {index} has a pixel over 16");
            assert!(label <= 9, "image {index} is labelled {label}");
        }
    }

    #[test]
    fn the_shipped_model_is_small_enough_to_be_compiled_in() {
        assert!(!DIGITS_ONNX.is_empty() && DIGITS_ONNX.len() < 250_000);
    }
}
