//! Help, and the pages of the documentation that are made from it.

use std::{fs, path::Path};

use crate::place::Place;

/// The page in the repository is what the program makes. To bring it up to
/// date: `HAULAGE_UPDATE_DOCS=1 cargo test -p haulage-cli`.
fn is_current(page: &str) {
    let made = Place::new().run(["docs", page]);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(format!("{page}.md"));
    if std::env::var_os("HAULAGE_UPDATE_DOCS").is_some() {
        fs::write(&file, &made.stdout).expect("write the page");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == made.stdout,
        "{} is out of date; HAULAGE_UPDATE_DOCS=1 cargo test -p haulage-cli writes it anew",
        file.display()
    );
}

#[test]
fn environment_page_is_current() {
    is_current("environment");
}

#[test]
fn command_page_is_current() {
    is_current("cli");
}

#[test]
fn help_is_data_and_no_arguments_are_a_mistake() {
    let place = Place::new();
    let help = place.run(["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
    let nothing = place.run::<&str>([]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    assert!(nothing.stderr.contains("Usage: haulage"), "{}", nothing.stderr);
    let version = place.run(["--version"]);
    assert_eq!(version.stdout, format!("haulage {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(["completions", shell]);
        assert!(script.contains("max-attempts"), "{shell}");
        // The others know no values.
        if ["bash", "zsh", "fish"].contains(&shell) {
            assert!(script.contains("in-progress"), "{shell}");
        }
        for hidden in ["bench-actor", "demo-worker", "guard"] {
            assert!(!script.contains(hidden), "{shell} completes {hidden}, which is not for people");
        }
    }
}
