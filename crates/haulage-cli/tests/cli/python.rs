//! `haulage worker --python`, which the Python package carries out.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::place::Place;

/// A folder with a `python3` that says how it was called.
fn place() -> Place {
    let place = Place::new();
    let file = place.write("python3", "#!/bin/sh\necho \"$@\"\nexit 3\n");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("make it executable");
    place
}

#[test]
fn the_program_becomes_python_with_the_same_arguments() {
    let place = place();
    let args = ["--url", "sqlite://x.db", "worker", "--python", "tasks:double", "--processes", "2"];
    let done = place.command(args).env("PATH", place.path("")).output().expect("run");
    let words = String::from_utf8_lossy(&done.stdout);
    let ends = "sys.exit(main()) --url sqlite://x.db worker --python tasks:double --processes 2\n";
    assert!(words.starts_with("-c import sys;") && words.ends_with(ends), "{words}");
    assert_eq!(done.status.code(), Some(3));
    let done =
        place.command(["worker"]).env("PATH", place.path("")).env("HAULAGE_PYTHON", "tasks:double").output();
    let words = String::from_utf8_lossy(&done.expect("run").stdout).into_owned();
    assert!(words.ends_with("sys.exit(main()) worker\n"), "{words}");
}

#[test]
fn what_goes_with_python_alone_is_refused_without() {
    let done = place().run(["worker", "--exec", "cat", "--processes", "2"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.stderr, "haulage: --processes goes with --python, and there is none\n");
    // A program is started for each job, and keeps nothing.
    let done =
        place().run(["worker", "--exec", "cat", "--gpus", "0", "--max-device-memory-per-child", "70GiB"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.stderr, "haulage: --max-device-memory-per-child goes with --python, and there is none\n");
    let done = place().run(["worker", "--exec", "cat", "--python", "tasks:double"]);
    assert_eq!(done.code, Some(2));
}

#[test]
fn a_missing_package_is_named() {
    let place = Place::new();
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let python = String::from_utf8(asked.expect("Python 3").stdout).expect("a path");
    // Without the folders of installed packages.
    let file = place.write("python3", format!("#!/bin/sh\nexec '{}' -I -S \"$@\"\n", python.trim()));
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let done = place.command(["worker", "--python", "tasks:double"]).env("PATH", place.path("")).output();
    let done = done.expect("run");
    assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0));
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(words.starts_with("haulage: python3 has no package haulage"), "{words}");
}

#[test]
fn a_missing_python_is_named() {
    let place = Place::new();
    let done = place.command(["worker", "--python", "tasks:double"]).env("PATH", "/nowhere").output();
    let done = done.expect("run");
    let words = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2));
    assert!(words.contains("cannot run python3 for --python"), "{words}");
}
