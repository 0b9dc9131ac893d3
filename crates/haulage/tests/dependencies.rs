//! A plain build stays light, and free of cloud SDKs; the tests build them once.

use std::{collections::BTreeSet, process::Command};

/// What a build pulls in, a line each: `edges` of the packages that `selection` names.
fn tree(edges: &str, format: &str, selection: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--edges", edges, "--format", format])
        .args(selection.split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

/// The packages that a build of `package` with its default features pulls in.
fn packages(package: &str) -> BTreeSet<String> {
    let lines = tree("normal,build", "{p}", &format!("--package {package}"));
    lines.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn assert_light(package: &str, at_most: usize) {
    let packages = packages(package);
    let heavy = |name: &&String| name.starts_with("aws-") || name.as_str() == "openssl-sys";
    assert_eq!(packages.iter().find(heavy), None, "in the plain build of {package}");
    let count = packages.len();
    assert!(
        count <= at_most,
        "{package} pulls in {count} packages, and {at_most} were agreed on: {packages:?}"
    );
}

#[test]
fn the_library() {
    assert_light("haulage", 60);
}

#[test]
fn the_command_line() {
    assert_light("haulage-cli", 122);
}

/// What `selection` is made of, but for itself, has the same features without what its own tests need, as in
/// `everything` with that: or else cargo compiles it again, and with it the SDK of AWS, which takes minutes.
fn assert_shared(selection: &str, everything: &str) {
    let features = |edges, selection| {
        let mut lines = tree(edges, "{p} with {f}", selection);
        lines.retain(|line| !line.starts_with("haulage-python "));
        lines
    };
    let (alone, all) = (features("normal,build", selection), features("normal,build,dev", everything));
    let again: Vec<_> = alone.difference(&all).collect();
    assert!(
        again.is_empty(),
        "{selection} compiles again what {everything} has compiled with other features, which \
         tests/servers/Cargo.toml could switch on: {again:#?}"
    );
}

/// The commands of the Makefile.
#[test]
fn tests_compile_the_sdk_once() {
    let everything = "--workspace --features haulage-cli/aws,haulage-autoscale/lambda";
    assert_shared("--package haulage-python --features haulage-python/test-build", everything);
    let program = "--package haulage-cli --package haulage-servers --package haulage-autoscale --features haulage-cli/aws,haulage-autoscale/lambda";
    assert_shared(program, everything);
}

#[test]
fn lints_and_documentation_check_the_sdk_once() {
    assert_shared("--workspace --all-features", "--workspace --all-features");
}

/// A registry takes no package that depends on one that is not there, whatever
/// feature the dependency belongs to.
#[test]
fn what_is_published_depends_on_nothing_that_is_not() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let (private, published): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package["publish"].as_array().is_some_and(Vec::is_empty));
    assert!(!private.is_empty() && !published.is_empty(), "both kinds are in the workspace");
    let names: BTreeSet<_> =
        private.iter().map(|package| &package["name"]).map(|name| name.as_str()).collect();
    for package in published {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Tests are not published with their dependencies, where those have no version.
            if dependency["kind"] != "dev" {
                let name = dependency["name"].as_str();
                assert!(!names.contains(&name), "{} depends on {name:?}", package["name"]);
            }
        }
    }
}
