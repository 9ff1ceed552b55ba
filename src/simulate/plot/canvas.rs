//! A picture in memory: pixels, and text in a font that is part of the program, so that a box without any draws the same.

use std::convert::Infallible;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

const FONT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;

/// What is drawn on.
pub(super) struct Canvas<'a> {
    width: u32,
    height: u32,
    /// Three bytes each, row by row.
    pixels: &'a mut [u8],
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// The pixels of a picture of this size.
pub(super) fn blank((width, height): (u32, u32)) -> Vec<u8> {
    vec![0; 3 * width as usize * height as usize]
}

/// They as PNG.
pub(super) fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

impl<'a> Canvas<'a> {
    pub(super) fn on(pixels: &'a mut [u8], (width, height): (u32, u32)) -> Self {
        Self { width, height, pixels }
    }

    /// Mixes a colour in; what lies outside is not drawn.
    fn mix(&mut self, (x, y): BackendCoord, color: BackendColor, coverage: f64) {
        let inside = |value: i32, end: u32| u32::try_from(value).ok().filter(|value| *value < end);
        let Some((x, y)) = inside(x, self.width).zip(inside(y, self.height)) else { return };
        let first = 3 * (y as usize * self.width as usize + x as usize);
        let (red, green, blue) = color.rgb;
        for (pixel, ink) in self.pixels[first..first + 3].iter_mut().zip([red, green, blue]) {
            let mixed = f64::from(*pixel) + (f64::from(ink) - f64::from(*pixel)) * color.alpha * coverage;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
            let mixed = mixed.round() as u8;
            *pixel = mixed;
        }
    }
}

/// Width and height of a line of text.
fn size_of(text: &str) -> (i32, i32) {
    let pixels = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    (pixels(text.chars().count() * get_raster_width(WEIGHT, FONT)), pixels(FONT.val()))
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.mix(point, color, 1.0);
        Ok(())
    }

    /// In one size, whatever is asked for.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn {
        let (width, height) = size_of(text);
        let left = match style.anchor().h_pos {
            HPos::Left => 0,
            HPos::Center => -width / 2,
            HPos::Right => -width,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        let color = style.color();
        let letters = text
            .chars()
            .filter_map(|letter| get_raster(letter, WEIGHT, FONT).or_else(|| get_raster('?', WEIGHT, FONT)));
        for (letter, from) in letters.zip((left..).step_by(get_raster_width(WEIGHT, FONT))) {
            for (row, y) in letter.rows().zip(top..) {
                for (coverage, x) in row.iter().zip(from..).filter(|(coverage, _)| **coverage > 0) {
                    let (x, y) = style.transform().transform(x, y);
                    self.mix((at.0 + x, at.1 + y), color, f64::from(*coverage) / 255.0);
                }
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let (width, height) = size_of(text);
        Ok((width.unsigned_abs(), height.unsigned_abs()))
    }
}
