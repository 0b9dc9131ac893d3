//! Pictures of outcomes: SVG, and a chart for terminals.

use std::fmt::Write as _;

use super::{Outcome, Sample};

/// Told apart by people who do not see all colours (Okabe and Ito, "Color
/// Universal Design").
const COLOURS: [&str; 6] = ["#999999", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#0072b2"];
const WIDTH: f64 = 1050.0;
const PANEL: f64 = 220.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 90.0;
const GAP: f64 = 40.0;
/// The most points of a line: of a longer trace the highest of each stretch.
const POINTS: usize = 1800;

/// Jobs that wait and tasks that run over time, a line for each outcome; what
/// came of each stands above.
pub fn svg(outcomes: &[Outcome]) -> String {
    let height = TOP + 2.0 * (PANEL + GAP) + 10.0;
    let end = outcomes.iter().filter_map(|o| o.samples.last()).map(|s| s.seconds).max().unwrap_or(1).max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        WIDTH + LEFT + 20.0,
    );
    let name = outcomes.first().map_or("", |outcome| outcome.trace.as_str());
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}</text>", escape(name));
    for (index, outcome) in outcomes.iter().enumerate() {
        let x = LEFT + 175.0 * index as f64;
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"33\" width=\"14\" height=\"4\" fill=\"{colour}\"/>");
        let Outcome { waiting, task_hours, dollars, .. } = outcome;
        let legend = [
            escape(outcome.policy.name()),
            format!("waiting p50 {:.0} s, p99 {:.0} s", waiting.p50, waiting.p99),
            format!("{task_hours:.2} task-hours, ${dollars:.3}"),
        ];
        for (line, label) in legend.iter().enumerate() {
            let y = 40 + 15 * line;
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\">{label}</text>", x + 19.0);
        }
    }
    panel(&mut svg, outcomes, end, TOP, "jobs waiting", |sample| sample.queue as f64);
    panel(&mut svg, outcomes, end, TOP + PANEL + GAP, "tasks running", |sample| f64::from(sample.tasks));
    svg.push_str("</svg>\n");
    svg
}

fn panel(
    svg: &mut String,
    outcomes: &[Outcome],
    end: u32,
    top: f64,
    title: &str,
    of: impl Fn(&Sample) -> f64,
) {
    let most = outcomes.iter().flat_map(|o| &o.samples).map(&of).fold(1.0, f64::max);
    let x = |seconds: u32| LEFT + WIDTH * f64::from(seconds) / f64::from(end);
    let y = |value: f64| top + PANEL * (1.0 - value / most);
    let (bottom, right) = (top + PANEL, LEFT + WIDTH);
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#333333\"/>\n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.0}</text>\n<text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\n<text x=\"{}\" y=\"{}\">{title}</text>",
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0,
        LEFT + 8.0,
        top + 12.0,
    );
    let hours = f64::from(end) / 3600.0;
    // A dozen at most, as they have to be read.
    let every = if hours <= 12.0 { 1.0_f64.min(hours).max(0.5) } else { (hours / 12.0 / 4.0).ceil() * 4.0 };
    for tick in 0..=((hours / every) as u32) {
        let hour = f64::from(tick) * every;
        let at = x((hour * 3600.0) as u32);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{hour} h</text>",
            bottom + 15.0
        );
    }
    for (index, outcome) in outcomes.iter().enumerate() {
        let mut points = String::new();
        for stretch in outcome.samples.chunks(outcome.samples.len().div_ceil(POINTS).max(1)) {
            let highest = stretch.iter().map(&of).fold(0.0, f64::max);
            let _ = write!(points, "{:.1},{:.1} ", x(stretch[0].seconds), y(highest));
        }
        let colour = COLOURS[index % COLOURS.len()];
        let points = points.trim_end();
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Two lines for each outcome, jobs that wait and tasks that run, `width`
/// characters wide. All lines of a kind have one scale.
pub fn chart(outcomes: &[Outcome], width: usize) -> String {
    let queue = |sample: &Sample| sample.queue as f64;
    let tasks = |sample: &Sample| f64::from(sample.tasks);
    let most =
        |of: &dyn Fn(&Sample) -> f64| outcomes.iter().flat_map(|o| &o.samples).map(of).fold(0.0, f64::max);
    let (most_queue, most_tasks) = (most(&queue), most(&tasks));
    let mut text = String::new();
    for outcome in outcomes {
        let name = outcome.policy.name();
        let line = bars(&outcome.samples, width, most_queue, queue);
        let _ = writeln!(text, "{name:<21} waiting {line} {}", outcome.queue_max);
        let line = bars(&outcome.samples, width, most_tasks, tasks);
        let _ = writeln!(text, "{:<21} tasks   {line} {}", "", outcome.tasks_max);
    }
    text
}

/// The highest value of each stretch of time, as a bar.
fn bars(samples: &[Sample], width: usize, most: f64, of: impl Fn(&Sample) -> f64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let stretch = |column: usize| {
        let from = column * samples.len() / width;
        let to = ((column + 1) * samples.len() / width).max(from + 1).min(samples.len());
        samples[from.min(to)..to].iter().map(&of).fold(0.0, f64::max)
    };
    // What is there is seen, however small.
    let bar = |value: f64| BARS[(value / most.max(1.0) * 8.0).ceil().clamp(0.0, 8.0) as usize];
    (0..width).map(|column| bar(stretch(column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Policy, Setup, Trace, simulate};

    fn outcomes() -> Vec<Outcome> {
        let trace = Trace::from_csv("a < b", "60,600\n60,600\n60,600\n").expect("a trace");
        Policy::all().map(|policy| simulate(&trace, policy, &Setup::default()).expect("valid")).into()
    }

    #[test]
    fn the_chart_has_two_lines_of_the_same_width_for_each_policy() {
        let chart = chart(&outcomes(), 40);
        let lines: Vec<&str> = chart.lines().collect();
        assert_eq!(lines.len(), 12);
        for line in &lines {
            let bars = line.chars().skip(30).take(40).collect::<String>();
            assert_eq!(bars.chars().count(), 40, "{line}");
            assert!(bars.chars().all(|c| " ▁▂▃▄▅▆▇█".contains(c)), "{line}");
        }
        assert!(lines[11].contains('▁') && lines[9].ends_with(" 3"), "{chart}");
    }

    #[test]
    fn the_svg_has_a_line_for_each_policy_in_both_panels_and_what_came_of_it() {
        let outcomes = outcomes();
        let svg = svg(&outcomes);
        assert_eq!(svg.matches("<polyline").count(), 12);
        for Outcome { waiting, task_hours, dollars, .. } in &outcomes {
            let told = [
                format!("waiting p50 {:.0} s, p99 {:.0} s", waiting.p50, waiting.p99),
                format!("{task_hours:.2} task-hours, ${dollars:.3}"),
            ];
            assert!(told.iter().all(|told| svg.contains(told)), "{told:?}");
        }
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_long_trace_makes_a_picture_of_the_same_size() {
        let trace = Trace::from_csv("long", "0,60\n20000000,60\n").expect("a trace");
        let long = simulate(&trace, Policy::all()[4], &Setup::default()).expect("valid");
        assert!(long.samples.len() > 300_000);
        let svg = svg(&[long]);
        assert!(svg.len() < 60_000 && svg.matches(" h</text>").count() <= 26, "{}", svg.len());
    }

    #[test]
    fn nothing_to_show_is_an_empty_picture() {
        assert_eq!(chart(&[], 40), "");
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
