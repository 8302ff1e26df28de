//! How cost grows, as a picture: lines that all begin at one, with what was measured written beside them.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One picture. All lines have a point for each size.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the sizes are.
    pub sizes: &'a str,
    /// What is measured.
    pub measure: &'a str,
    /// The sizes, in words.
    pub labels: Vec<String>,
    /// What was measured.
    pub lines: Vec<Line>,
    /// What it is held against.
    pub reference: (&'a str, Vec<f64>),
}

/// One line of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// What was measured at each size.
    pub values: Vec<f64>,
    /// How a value is written beside its point, with one place for the number.
    pub unit: &'static str,
}

impl Line {
    /// The values over the first of them.
    pub fn growth(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|value| value / self.values[0])
    }
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x5f, 0xa8),
    RGBColor(0xc8, 0x4a, 0x1b),
    RGBColor(0x2b, 0x8a, 0x5a),
    RGBColor(0x7a, 0x3f, 0x98),
];
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x44);
const PALE: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
const GREY: RGBColor = RGBColor(0x8a, 0x93, 0x9e);

impl Plot<'_> {
    /// Writes it as an SVG.
    ///
    /// # Errors
    /// What the file system says.
    ///
    /// # Panics
    /// Where a line lacks a point.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, (760, 460)).into_drawing_area())?;
        std::fs::write(path, svg)?;
        Ok(())
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<(), Box<dyn Error>> {
        let (sizes, last) = (self.labels.len(), self.labels.len() as f64 - 1.0);
        assert!(self.lines.iter().all(|line| line.values.len() == sizes), "a point for each size");
        let tops = self.lines.iter().flat_map(Line::growth).chain(self.reference.1.iter().copied());
        let top = tops.fold(1.0, f64::max) * 1.18;
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 20).into_font().color(&INK))
            .margin(16)
            .x_label_area_size(46)
            .y_label_area_size(58)
            .build_cartesian_2d(-0.25..last + 0.5, 0.0..top)?;
        let label = ("sans-serif", 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_labels(4 * sizes)
            .x_label_formatter(&|at| self.label_at(*at))
            .y_label_formatter(&|times| format!("{times:.1}×"))
            .x_desc(self.sizes)
            .y_desc(self.measure)
            .label_style(label)
            .draw()?;
        let (name, values) = &self.reference;
        let points = (0..sizes).map(|at| (at as f64, values[at]));
        chart
            .draw_series(DashedLineSeries::new(points, 6, 5, GREY.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], GREY.stroke_width(2)));
        for (at, (line, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let points: Vec<(f64, f64)> =
                line.growth().enumerate().map(|(at, times)| (at as f64, times)).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
            // Above and below in turns, since lines begin at one point.
            let (side, distance) = if at % 2 == 0 { (VPos::Bottom, -7) } else { (VPos::Top, 9) };
            let beside = ("sans-serif", 13).into_font().color(&colour).pos(Pos::new(HPos::Left, side));
            chart.draw_series(points.iter().zip(&line.values).map(|(point, value)| {
                let text = Text::new(written(*value, line.unit), (7, distance), beside.clone());
                EmptyElement::at(*point) + text
            }))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 14).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(PALE)
            .draw()?;
        area.present()?;
        Ok(())
    }

    fn label_at(&self, at: f64) -> String {
        let nearest = at.round();
        let is_one = (at - nearest).abs() < 1e-6 && nearest >= 0.0;
        let label = is_one.then(|| self.labels.get(nearest as usize)).flatten();
        label.cloned().unwrap_or_default()
    }
}

/// A number with three digits that count, and its unit.
pub fn written(value: f64, unit: &str) -> String {
    let digits = match value {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_line_with_what_was_measured() {
        let line = |name: &str, values: [f64; 3]| Line {
            name: name.to_owned(),
            values: values.to_vec(),
            unit: "ms",
        };
        let plot = Plot {
            title: "how it grows",
            sizes: "entries",
            measure: "cost",
            labels: ["10", "100", "1,000"].map(str::to_owned).to_vec(),
            lines: vec![line("single", [0.5, 0.75, 2.0]), line("cluster", [10.0, 11.0, 123.4])],
            reference: ("proportional", vec![1.0; 3]),
        };
        let path = std::env::temp_dir().join(format!("plot-{}.svg", std::process::id()));
        plot.write(&path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let texts =
            ["how it grows", "1,000", "single", "cluster", "proportional", "0.750 ms", "2.00 ms", "123 ms"];
        for text in texts {
            assert_eq!(svg.lines().filter(|line| line.trim() == text).count(), 1, "{text} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 6);
    }
}
