//! `haulage simulate`: how many tasks scaling would run, and how long jobs
//! would wait.

use std::{fs, path::PathBuf, time::Duration};

use haulage_autoscale::{
    Invalid, ScaleInWindow, Slots,
    sim::{self, Comparison, Outcome, Policy, Setup, Shipped, Trace, Tuning, Verdict},
};

use crate::{
    exit::{Code, Exit, Result},
    options,
    output::{Output, count},
};

/// Width of the bars of a chart.
const CHART: usize = 60;

/// Simulate how a service on ECS follows its queue, and compare scaling policies
///
/// TRACE is a shipped one (steady, bursts, daily, heavy-tail, silent-night, outage), all of
/// them (all), or a CSV file with a line ARRIVAL_SECONDS,JOB_SECONDS for each job,
/// and a third field DELAY_SECONDS where it is submitted with a delay.
///
/// Each policy is shown with its defaults, below a bound that none can beat: the
/// most tasks all the time for waiting, no second without work for cost. The
/// models and what they leave out are described in docs/scaling.md.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  haulage simulate bursts --startup 3m --max-tasks 20\n  haulage simulate jobs.csv --target 10m"
)]
pub(crate) struct Args {
    /// Which jobs arrive
    #[arg(value_name = "TRACE", default_value = "all")]
    trace: String,

    /// Within how long a backlog is to be drained, for our policies; by default the time of one job
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    target: Option<Duration>,

    /// Jobs that a task runs side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,

    /// From the start of a task to its first job
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = options::duration)]
    startup: Duration,

    /// The fewest tasks
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_tasks: u32,

    /// The most tasks
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5000))]
    max_tasks: u32,

    /// The configured time of a job; by default the trace's mean
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    job_time: Option<Duration>,

    /// For how long capacity is kept that is not needed, for our policies: 30s to 1h, in whole
    /// minutes for haulage-alarms; by default 2m, and with --compare many
    #[arg(long, value_name = "DURATION", value_parser = scale_in_window)]
    scale_in_window: Option<ScaleInWindow>,

    /// How often the queue is looked at each minute, for our policies; by default 6, and 4 for
    /// haulage-alarms
    #[arg(long, value_name = "N", value_parser = samples_per_minute)]
    samples_per_minute: Option<u32>,

    /// How often a task is lost to Spot, each hour
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = not_negative)]
    spot_losses_per_hour: f64,

    /// Scale in tasks that work, too
    #[arg(long)]
    unprotected: bool,

    /// What a task costs, in dollars an hour; by default one vCPU and 4 GB on Fargate
    #[arg(long, value_name = "DOLLARS", default_value_t = Setup::default().dollars_per_task_hour,
          value_parser = not_negative)]
    price: f64,

    /// What is random comes from this number; the same number, the same result
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Draw queue and tasks over time
    #[arg(long)]
    chart: bool,

    /// Write the same as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Print the trace as CSV, and simulate nothing
    #[arg(long, conflicts_with_all = ["chart", "svg", "compare"])]
    csv: bool,

    /// Set each policy to many targets, and show what ours does for the same money
    #[arg(long, conflicts_with_all = ["chart", "svg", "target"])]
    compare: bool,

    /// Which of ours is compared: direct (haulage) or alarms (haulage-alarms)
    #[arg(long, value_name = "SCALER", requires = "compare", default_value = "direct")]
    scaler: Scaler,

    /// A line for each trace: against how many settings ours is no worse, and the worst case
    #[arg(long, requires = "compare")]
    summary: bool,

    /// Only the settings against which ours is worse, of all traces in one table
    #[arg(long, requires = "compare", conflicts_with = "summary")]
    worse: bool,
}

/// Who sets the number of tasks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Scaler {
    /// The desired count is set at each look
    Direct,
    /// Alarms and scaling policies
    Alarms,
}

impl Args {
    pub(crate) fn run(self, output: Output) -> Result {
        let traces = self.traces()?;
        let setup = self.setup()?;
        if traces.len() > 1 && (self.svg.is_some() || self.csv) {
            return Err(Exit::usage("--svg and --csv are for one trace; name it"));
        }
        if output.json && (self.csv || self.chart) {
            return Err(Exit::usage("--csv and --chart are not JSON; leave out one or the other"));
        }
        let (mut summaries, mut worse) = (Vec::new(), Vec::new());
        for trace in &traces {
            if self.csv {
                output.text(&trace.to_csv())?;
            } else if self.compare {
                let comparisons = sim::compare(trace, &setup, &self.ours()?).map_err(usage)?;
                if self.summary {
                    summaries.extend(sim::Summary::of(&comparisons));
                } else if self.worse {
                    worse.extend(comparisons.into_iter().filter(|c| c.verdict == Verdict::Worse));
                } else {
                    compared(output, trace, &comparisons)?;
                }
            } else {
                self.simulated(output, trace, &setup)?;
            }
        }
        if self.summary {
            summarized(output, &summaries)
        } else if self.worse {
            worse_than(output, &worse)
        } else {
            Ok(())
        }
    }

    fn traces(&self) -> Result<Vec<Trace>> {
        if self.trace == "all" {
            return Ok(Shipped::ALL.map(|shipped| shipped.generate(self.seed)).into());
        }
        if let Some(shipped) = Shipped::named(&self.trace) {
            return Ok(vec![shipped.generate(self.seed)]);
        }
        let text = fs::read_to_string(&self.trace).map_err(|error| {
            let names = Shipped::ALL.map(Shipped::name).join(", ");
            Exit::usage(format!(
                "cannot read the trace {}: {error}; name a CSV file, or one of {names}, all",
                self.trace
            ))
        })?;
        let trace = Trace::from_csv(&self.trace, &text);
        Ok(vec![trace.map_err(|error| Exit::usage(error.to_string()).about(&self.trace))?])
    }

    fn setup(&self) -> Result<Setup> {
        if self.min_tasks > self.max_tasks {
            return Err(Exit::usage("--min-tasks is above --max-tasks"));
        }
        Ok(Setup {
            slots: Slots::new(self.concurrency).map_err(usage)?,
            startup_seconds: self.startup.as_secs_f64(),
            min_tasks: self.min_tasks,
            max_tasks: self.max_tasks,
            job_seconds: self.job_time.map(|time| time.as_secs_f64()),
            protected: !self.unprotected,
            spot_losses_per_hour: self.spot_losses_per_hour,
            dollars_per_task_hour: self.price,
            seed: self.seed,
            ..Setup::default()
        })
    }

    /// The policy, with the settings that were given if it is ours.
    fn set(&self, policy: Policy) -> Policy {
        let set = |tuning: Tuning| Tuning {
            target: self.target.map(|target| target.as_secs_f64()),
            scale_in_window: self.scale_in_window.unwrap_or(tuning.scale_in_window),
            samples_per_minute: self.samples_per_minute.unwrap_or(tuning.samples_per_minute),
        };
        match policy {
            Policy::Haulage(tuning) => Policy::Haulage(set(tuning)),
            Policy::HaulageAlarms(tuning) => Policy::HaulageAlarms(set(tuning)),
            other => other,
        }
    }

    /// What is compared with the others: each window, unless one was given.
    fn ours(&self) -> Result<Vec<Policy>> {
        let windows: Result<Vec<_>, _> = Tuning::WINDOWS.into_iter().map(ScaleInWindow::new).collect();
        let mut windows = self.scale_in_window.map_or(windows.map_err(usage)?, |window| vec![window]);
        if let Scaler::Alarms = self.scaler {
            // The others come to the same.
            windows.retain(|window| window.get().is_multiple_of(60) || self.scale_in_window.is_some());
        }
        let policy = |scale_in_window| match self.scaler {
            Scaler::Direct => Policy::Haulage(Tuning { scale_in_window, ..Tuning::default() }),
            Scaler::Alarms => Policy::HaulageAlarms(Tuning { scale_in_window, ..Tuning::of_alarms() }),
        };
        Ok(windows.into_iter().map(|window| self.set(policy(window))).collect())
    }

    fn simulated(&self, output: Output, trace: &Trace, setup: &Setup) -> Result {
        let policies = Policy::all().map(|policy| self.set(policy));
        let outcomes: Result<Vec<Outcome>, Invalid> =
            policies.iter().map(|policy| sim::simulate(trace, *policy, setup)).collect();
        let outcomes = outcomes.map_err(usage)?;
        if let Some(path) = &self.svg {
            fs::write(path, sim::svg(&outcomes)).map_err(|error| {
                Exit::new(Code::Failure, format!("cannot write {}: {error}", path.display()))
            })?;
        }
        for outcome in outcomes.iter().filter(|outcome| outcome.finished < outcome.jobs) {
            let left = count(outcome.jobs - outcome.finished, "job");
            output.report(format!("{}: {left} not done in 30 days", outcome.policy.name()));
        }
        if output.json {
            return outcomes.iter().try_for_each(|outcome| output.json(outcome));
        }
        let header =
            ["POLICY", "SETTING", "P50", "P99", "MAX QUEUE", "MAX TASKS", "STARTS", "TASK-HOURS", "DOLLARS"];
        let rows: Vec<Vec<String>> = outcomes.iter().map(row).collect();
        let jobs = count(trace.arrivals().len() as u64, "job");
        output.text(&format!("{}, {jobs}\n", trace.name()))?;
        output.text(&output.table(&header, &rows))?;
        if self.chart {
            output.text(&sim::chart(&outcomes, CHART))?;
        }
        output.line("")
    }
}

fn row(outcome: &Outcome) -> Vec<String> {
    vec![
        outcome.policy.name().to_owned(),
        outcome.policy.setting(),
        format!("{:.0} s", outcome.waiting.p50),
        format!("{:.0} s", outcome.waiting.p99),
        outcome.queue_max.to_string(),
        outcome.tasks_max.to_string(),
        outcome.task_starts.to_string(),
        format!("{:.2}", outcome.task_hours),
        format!("{:.3}", outcome.dollars),
    ]
}

fn compared(output: Output, trace: &Trace, comparisons: &[Comparison]) -> Result {
    if output.json {
        return comparisons.iter().try_for_each(|comparison| output.json(comparison));
    }
    let header = ["OTHER", "SETTING", "P99", "DOLLARS", "OURS", "P99", "DOLLARS", "OURS IS"];
    let row = |comparison: &Comparison| {
        let (other, ours) = (&comparison.other, &comparison.ours);
        let verdict = match comparison.verdict {
            Verdict::NoWorse => "no worse",
            Verdict::Worse => "worse",
        };
        vec![
            other.policy.name().to_owned(),
            format!("{}, min {}", other.policy.setting(), other.min_tasks),
            format!("{:.0} s", other.waiting.p99),
            format!("{:.3}", other.dollars),
            format!("{}, min {}", ours.policy.setting(), ours.min_tasks),
            format!("{:.0} s", ours.waiting.p99),
            format!("{:.3}", ours.dollars),
            verdict.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = comparisons.iter().map(row).collect();
    let good = comparisons.iter().filter(|comparison| comparison.verdict == Verdict::NoWorse).count();
    output.text(&format!(
        "{}: for the same money, no worse than {good} of {}\n",
        trace.name(),
        rows.len()
    ))?;
    output.text(&output.table(&header, &rows))?;
    output.line("")
}

fn summarized(output: Output, summaries: &[sim::Summary]) -> Result {
    if output.json {
        return output.json(&summaries);
    }
    let header = ["TRACE", "NO WORSE", "WORST AGAINST", "P99", "DOLLARS", "OURS", "P99", "DOLLARS"];
    let row = |summary: &sim::Summary| {
        let [trace, others @ ..] = beside(&summary.worst);
        let no_worse = format!("{} of {}", summary.no_worse, summary.of);
        [vec![trace, no_worse], others.to_vec()].concat()
    };
    output.text(&output.table(&header, &summaries.iter().map(row).collect::<Vec<_>>()))
}

fn worse_than(output: Output, worse: &[Comparison]) -> Result {
    if output.json {
        return worse.iter().try_for_each(|comparison| output.json(comparison));
    }
    let header = ["TRACE", "WORSE THAN", "P99", "DOLLARS", "OURS", "P99", "DOLLARS"];
    let rows: Vec<_> = worse.iter().map(|comparison| beside(comparison).to_vec()).collect();
    output.text(&output.table(&header, &rows))
}

/// The trace, the other one's setting, waiting time and cost, and the same of ours.
fn beside(comparison: &Comparison) -> [String; 7] {
    let (other, ours) = (&comparison.other, &comparison.ours);
    [
        other.trace.clone(),
        format!("{}, {}, min {}", other.policy.name(), other.policy.setting(), other.min_tasks),
        format!("{:.0} s", other.waiting.p99),
        format!("{:.3}", other.dollars),
        format!("{}, min {}", ours.policy.setting(), ours.min_tasks),
        format!("{:.0} s", ours.waiting.p99),
        format!("{:.3}", ours.dollars),
    ]
}

fn scale_in_window(text: &str) -> Result<ScaleInWindow, String> {
    let duration = options::duration(text)?;
    let seconds = u32::try_from(duration.as_secs()).ok().filter(|_| duration.subsec_nanos() == 0);
    let window = seconds.and_then(|seconds| ScaleInWindow::new(seconds).ok());
    window.ok_or_else(|| "write 30s to 1h, in whole seconds".to_owned())
}

fn samples_per_minute(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(samples) if Tuning::SAMPLES.contains(&samples) => Ok(samples),
        _ => Err("write 2, 3, 4 or 6".to_owned()),
    }
}

fn usage(invalid: Invalid) -> Exit {
    Exit::usage(invalid.to_string())
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..f64::INFINITY).contains(&number) => Ok(number),
        _ => Err("write a number, 0 or more".to_owned()),
    }
}
