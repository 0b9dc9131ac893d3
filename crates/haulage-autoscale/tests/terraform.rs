//! What is simulated is what Terraform sets up.

use std::{fs, path::Path};

use haulage_autoscale::{
    BacklogSeconds, CapacityDemand, NAMESPACE, RequiredTasks, SCALE_OUT, ScaleOutTo,
    sim::{SCALE_IN, SCALE_IN_COOLDOWN, Tuning},
};

fn module(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../terraform/modules");
    let text = fs::read_to_string(root.join(path)).expect("the module");
    // However it is aligned.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn default(variables: &str, name: &str) -> u32 {
    let after = variables.split(&format!("variable \"{name}\" {{")).nth(1).expect("the variable");
    let value = after.split("default = ").nth(1).and_then(|rest| rest.split(' ').next());
    value.and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn the_policies_have_the_same_steps() {
    let main = module("autoscaling/main.tf");
    for expected in [
        format!("scale_out = {SCALE_OUT:?}"),
        format!("scale_in = {SCALE_IN:?}"),
        format!("cooldown = {SCALE_IN_COOLDOWN}"),
        format!("namespace = \"{NAMESPACE}\""),
    ] {
        assert!(main.contains(&expected), "{expected}");
    }
}

#[test]
fn the_defaults_are_the_same() {
    let variables = module("autoscaling/variables.tf");
    assert_eq!(default(&variables, "scale_in_minutes"), Tuning::default().scale_in_minutes);
    assert_eq!(default(&variables, "looks_per_minute"), Tuning::default().looks_per_minute);
}

#[test]
fn alarms_and_dashboard_know_the_metrics_by_their_names() {
    let autoscaling = module("autoscaling/main.tf");
    for name in [ScaleOutTo::NAME, CapacityDemand::NAME] {
        assert!(autoscaling.contains(&format!("metric_name = \"{name}\"")), "{name}");
    }
    let alarms = module("alarms/main.tf") + &module("alarms/dashboard.tf");
    for name in [BacklogSeconds::NAME, RequiredTasks::NAME] {
        assert!(alarms.contains(&format!("\"{name}\"")), "{name}");
    }
}
