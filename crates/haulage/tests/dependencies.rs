//! A plain build stays light, and free of cloud SDKs.

use std::{collections::BTreeSet, process::Command};

/// The packages that a build of `package` with its default features pulls in.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            package,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn assert_light(package: &str, at_most: usize) {
    let packages = tree(package);
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
    assert_light("haulage-cli", 110);
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
