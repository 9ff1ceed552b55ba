//! Plays as a picture: load and capacity, the queue, and what was spent, one below the other, a line for each policy.

use std::error::Error;
use std::time::Duration;

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::PathElement;
use plotters::series::{AreaSeries, LineSeries};
use plotters::style::{BLACK, Color, Palette, Palette99, RGBColor, ShapeStyle, WHITE};

use super::course::Point;

mod canvas;
use canvas::Canvas;

const SIZE: (u32, u32) = (1200, 1080);
const FONT: &str = "sans-serif";
const LOAD: RGBColor = RGBColor(200, 200, 200);

/// One policy's play.
pub struct Play {
    /// What it is called.
    pub name: String,
    /// How it went.
    pub points: Vec<Point>,
}

/// What one panel shows.
struct Panel {
    title: &'static str,
    unit: &'static str,
    value: fn(&Point) -> f64,
    /// The load stands behind it.
    has_load: bool,
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "Requests that the ready replicas take at once; grey: the load",
        unit: "requests",
        value: |point| point.places,
        has_load: true,
    },
    Panel { title: "Requests that wait", unit: "requests", value: |point| point.queued, has_load: false },
    Panel { title: "Spent on instances", unit: "units", value: |point| point.spend, has_load: false },
];

/// The picture as SVG.
///
/// # Errors
/// It could not be drawn.
pub fn svg(plays: &[Play], length: Duration) -> Result<String, Box<dyn Error>> {
    let mut picture = String::new();
    draw_all(SVGBackend::with_string(&mut picture, SIZE), plays, length)?;
    Ok(picture)
}

/// The picture as PNG.
///
/// # Errors
/// It could not be drawn.
pub fn png(plays: &[Play], length: Duration) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut pixels = canvas::blank(SIZE);
    draw_all(Canvas::on(&mut pixels, SIZE), plays, length)?;
    Ok(canvas::encode(&pixels, SIZE)?)
}

fn draw_all<B: DrawingBackend<ErrorType: 'static>>(
    backend: B,
    plays: &[Play],
    length: Duration,
) -> Result<(), Box<dyn Error>> {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in PANELS.iter().zip(root.split_evenly((PANELS.len(), 1))) {
        draw(panel, &area, plays, hours(length))?;
    }
    Ok(root.present()?)
}

fn draw<B: DrawingBackend<ErrorType: 'static>>(
    panel: &Panel,
    area: &DrawingArea<B, Shift>,
    plays: &[Play],
    length: f64,
) -> Result<(), Box<dyn Error>> {
    let highest = |value: fn(&Point) -> f64| plays.iter().flat_map(|play| &play.points).map(value).fold(0.0, f64::max);
    let top = highest(panel.value).max(if panel.has_load { highest(|point| point.load) } else { 0.0 });
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..length, 0.0..(top * 1.05).max(1e-6))?;
    chart.configure_mesh().x_desc("hours").y_desc(panel.unit).light_line_style(WHITE).draw()?;
    if let Some(play) = plays.first().filter(|_| panel.has_load) {
        let load = play.points.iter().map(|point| (hours(point.at), point.load));
        chart.draw_series(AreaSeries::new(load, 0.0, LOAD.mix(0.6)))?;
    }
    for (index, play) in plays.iter().enumerate() {
        let style: ShapeStyle = Palette99::pick(index).stroke_width(1);
        let line = play.points.iter().map(|point| (hours(point.at), (panel.value)(point)));
        chart
            .draw_series(LineSeries::new(line, style))?
            .label(&play.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .label_font((FONT, 16))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / 3600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_a_line_in_each_panel_and_stands_in_the_legend() {
        let points = |places: f64| {
            let point = |second| Point { at: Duration::from_secs(second), load: 3.0, places, queued: 0.0, spend: 0.1 };
            (0..100).map(point).collect()
        };
        let plays = [("predictive", 4.0), ("hpa", 6.0)]
            .map(|(name, places)| Play { name: name.into(), points: points(places) });
        let picture = svg(&plays, Duration::from_secs(100)).unwrap();
        assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
        for word in ["predictive", "hpa", "Requests that wait", "Spent on instances", "hours"] {
            assert!(picture.contains(word), "no {word}");
        }
        assert!(picture.matches("<polyline").count() >= 6);
        assert_eq!(svg(&plays, Duration::from_secs(100)).unwrap(), picture, "the same again");
    }

    #[test]
    fn nothing_to_show_is_no_error() {
        let second = Duration::from_secs(1);
        for plays in [vec![], vec![Play { name: "x".into(), points: Vec::new() }]] {
            assert!(svg(&plays, second).is_ok() && png(&plays, second).is_ok());
        }
    }

    #[test]
    fn a_png_is_read_by_another_and_shows_lines_and_words() {
        let point = |second| Point { at: Duration::from_secs(second), load: 3.0, places: 4.0, queued: 0.0, spend: 0.1 };
        let play = |name: &str| Play { name: name.into(), points: (0..100).map(point).collect() };
        let drawn = |name| {
            let bytes = png(&[play(name)], Duration::from_secs(100)).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
            assert_eq!((reader.info().width, reader.info().height), SIZE);
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            pixels.chunks(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect::<Vec<_>>()
        };
        let (pixels, others) = (drawn("predictive"), drawn("hpa"));
        let (red, green, blue) = Palette99::pick(0).to_backend_color().rgb;
        assert_eq!(pixels[0], [255, 255, 255]);
        assert!(pixels.iter().filter(|pixel| **pixel == [red, green, blue]).count() > 1000, "a line");
        let changed = pixels.iter().zip(&others).filter(|(one, other)| one != other).count();
        assert!((50..50_000).contains(&changed), "the name in the legend alone: {changed}");
        assert_eq!(drawn("predictive"), pixels, "the same again");
    }
}
