//! What is simulated is what Terraform sets up.

use std::{fs, path::Path};

use haulage_autoscale::{
    BacklogSeconds, CapacityDemand, JobSeconds, NAMESPACE, RequiredTasks, SCALE_IN, SCALE_OUT, ScaleInTo,
    ScaleOutTo, Target, sim::Tuning,
};

fn module(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../terraform/modules");
    let text = fs::read_to_string(root.join(path)).expect("the module");
    let code = text.lines().map(|line| line.split(" #").next().unwrap_or_default());
    // However it is aligned.
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// A resource of the module, up to the next one.
fn resource(module: &str, kind: &str, name: &str) -> String {
    let start = format!("resource \"{kind}\" \"{name}\" {{");
    let after = module.split(&start).nth(1).unwrap_or_else(|| panic!("no {start}"));
    after.split("resource \"").next().unwrap_or_default().to_owned()
}

fn default(variables: &str, name: &str) -> u32 {
    let after = variables.split(&format!("variable \"{name}\" {{")).nth(1).expect("the variable");
    let value = after.split("default = ").nth(1).and_then(|rest| rest.split(' ').next());
    value.and_then(|value| value.parse().ok()).expect("a number")
}

fn assert_has(text: &str, expected: &[String]) {
    for expected in expected {
        assert!(text.contains(expected.as_str()), "{expected} in: {text}");
    }
}

#[test]
fn the_steps_are_the_same() {
    let main = module("scaling_alarms/main.tf");
    assert_has(
        &main,
        &[
            format!("scale_out = {SCALE_OUT:?}"),
            format!("scale_in = {SCALE_IN:?}"),
            format!("namespace = \"{NAMESPACE}\""),
            "scale_out_threshold = 1".to_owned(),
            "scale_in_threshold = max(local.scale_in...)".to_owned(),
        ],
    );
    assert!(SCALE_IN.iter().all(|step| *step < ScaleInTo::STAY), "to stay is no breach");
    assert!(SCALE_IN.is_sorted() && SCALE_OUT.is_sorted());
}

/// `sim/policy.rs` has the same, by hand; who changes one changes the other.
#[test]
fn alarms_and_policies_are_as_simulated() {
    let main = module("scaling_alarms/main.tf");
    let alarms = [
        ("scale_out", ScaleOutTo::NAME, "period = 10 ", "GreaterThanOrEqualToThreshold"),
        ("scale_in", ScaleInTo::NAME, "period = var.scale_in_window_seconds ", "LessThanOrEqualToThreshold"),
    ];
    for (name, metric, period, comparison) in alarms {
        let alarm = resource(&main, "aws_cloudwatch_metric_alarm", name);
        assert_has(
            &alarm,
            &[
                format!("metric_name = \"{metric}\""),
                "statistic = \"Maximum\"".to_owned(),
                period.to_owned(),
                "evaluation_periods = 1 ".to_owned(),
                format!("comparison_operator = \"{comparison}\""),
                format!("threshold = local.{name}_threshold"),
                "treat_missing_data = \"notBreaching\"".to_owned(),
                format!("alarm_actions = [aws_appautoscaling_policy.{name}.arn]"),
            ],
        );
        assert!(!alarm.contains("datapoints_to_alarm"), "all of one");
        let policy = resource(&main, "aws_appautoscaling_policy", name);
        assert_has(
            &policy,
            &[
                "policy_type = \"StepScaling\"".to_owned(),
                "adjustment_type = \"ExactCapacity\"".to_owned(),
                "metric_aggregation_type = \"Maximum\"".to_owned(),
                "cooldown = 0 ".to_owned(),
                format!("for_each = local.{name}_steps"),
            ],
        );
    }
    let tracking = resource(&main, "aws_appautoscaling_policy", "tracking");
    assert_has(
        &tracking,
        &[
            "policy_type = \"TargetTrackingScaling\"".to_owned(),
            "target_value = 100 ".to_owned(),
            "disable_scale_in = true".to_owned(),
            "scale_out_cooldown = 300 ".to_owned(),
            format!("metric_name = \"{}\"", CapacityDemand::NAME),
            "statistic = \"Minimum\"".to_owned(),
        ],
    );
}

#[test]
fn the_defaults_are_the_same() {
    let window = Tuning::default().scale_in_window.get();
    assert_eq!(default(&module("scaling_alarms/variables.tf"), "scale_in_window_seconds"), window);
    let variables = module("scaler/variables.tf");
    assert_has(&variables, &[format!("scale_in_window_seconds = optional(number, {window})")]);
    let samples = [Tuning::default(), Tuning::of_alarms()].map(|tuning| tuning.samples_per_minute);
    let samples =
        format!("var.samples_per_minute, length(local.direct) > 0 ? {} : {})", samples[0], samples[1]);
    assert_has(&module("scaler/main.tf"), &[samples]);
    assert_has(&variables, &[format!("contains({:?}, var.samples_per_minute)", Tuning::SAMPLES)]);
}

/// What the Lambda would refuse is refused before anything is made.
#[test]
fn the_bounds_are_those_of_the_lambda() {
    let variables = module("scaler/variables.tf");
    let checked = "for seconds in [pair.job_seconds, pair.target_seconds] : seconds ";
    let condition = variables.split(checked).nth(1).expect("a condition");
    let bound = |comparison: &str| {
        let after = format!(" {condition}").split(&format!(" {comparison} ")).nth(1)?.to_owned();
        after.split(' ').next().and_then(|bound| bound.parse::<f64>().ok())
    };
    let (least, most) = (bound(">=").expect("a number"), bound("<=").expect("a number"));
    for takes in [(|seconds| JobSeconds::new(seconds).is_ok()) as fn(f64) -> bool, |seconds| {
        Target::new(seconds).is_ok()
    }] {
        assert!(takes(least) && takes(most));
        assert!(!takes(least.next_down()) && !takes(most.next_up()));
    }
}

#[test]
fn alarms_and_dashboard_know_the_metrics_by_their_names() {
    let alarms = module("alarms/main.tf") + &module("alarms/dashboard.tf");
    for name in [BacklogSeconds::NAME, RequiredTasks::NAME] {
        assert!(alarms.contains(&format!("\"{name}\"")), "{name}");
    }
}
