//! The fuzz targets are a workspace of their own, which nothing else builds.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn what_the_fuzz_targets_take_in_needs_no_more_than_they_have() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest = read(&fuzz.join("Cargo.toml"));
    let has = |name: &str| manifest.lines().any(|line| line.split([' ', '.', '=']).next() == Some(name));
    let mut files = 0;
    for target in fs::read_dir(fuzz.join("fuzz_targets")).expect("the targets") {
        let target = target.expect("a target").path();
        for line in read(&target).lines() {
            let Some(path) = line.strip_prefix("#[path = \"").and_then(|line| line.split('"').next()) else {
                continue;
            };
            files += 1;
            let text = read(&target.with_file_name(path));
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let crates: BTreeSet<_> = product
                .lines()
                .filter_map(|line| line.strip_prefix("use ")?.split([':', ';']).next())
                .filter(|name| !["std", "crate", "super", "self"].contains(name))
                .collect();
            for name in crates {
                assert!(
                    has(name) || has(&name.replace('_', "-")),
                    "{path} uses {name}, which fuzz/Cargo.toml has not"
                );
            }
        }
    }
    assert!(files > 0, "no target takes in a file");
}
