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

/// What a shell is offered for the last of these words.
fn completed(place: &Place, words: &[&str]) -> Vec<String> {
    let mut command = place.command(["--", "haulage"].iter().chain(words));
    command.env("_HAULAGE_COMPLETE", "fish");
    let done = command.output().expect("haulage runs");
    assert!(done.status.success() && done.stderr.is_empty(), "{words:?}: {done:?}");
    let offered = String::from_utf8(done.stdout).expect("text");
    offered.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn completions_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(["completions", shell]);
        assert!(script.contains("_HAULAGE_COMPLETE"), "{shell}: {script}");
    }
    let commands = completed(&place, &[""]);
    assert!(commands.contains(&"submit".to_owned()), "{commands:?}");
    for hidden in ["bench-actor", "guard"] {
        assert!(!commands.contains(&hidden.to_owned()), "{hidden} is not for people");
    }
    assert_eq!(completed(&place, &["submit", "--max-a"]), ["--max-attempts"]);
    assert_eq!(completed(&place, &["list", "--status", "in"]), ["in-progress"]);
}

#[test]
fn the_ids_of_jobs_are_completed_where_there_are_some() {
    let place = Place::new();
    for word in ["", "0"] {
        assert_eq!(completed(&place, &["status", word]).iter().filter(|id| !id.starts_with('-')).count(), 0);
    }
    assert!(!place.path("haulage.db").exists(), "a look made a database");

    let ids: Vec<_> = (0..3).map(|n| place.ok(["submit", &n.to_string()]).trim().to_owned()).collect();
    let [first, second, third] = [&*ids[0], &*ids[1], &*ids[2]];
    place.ok(["cancel", second]);
    let newest_first = [third, second, first];
    assert_eq!(completed(&place, &["status", "0"]), newest_first);
    assert_eq!(completed(&place, &["wait", first, "0"]), newest_first);
    assert_eq!(completed(&place, &["result", third]), [third]);
    assert_eq!(completed(&place, &["cancel", "0"]), [third, first]);
    assert_eq!(completed(&place, &["retry", "0"]), [second]);
    let elsewhere = completed(&place, &["--url", "sqlite://other.db", "status", "0"]);
    assert_eq!(elsewhere, Vec::<String>::new());
    assert_eq!(completed(&place, &["status", "--url=sqs://jobs?table=t", "0"]), Vec::<String>::new());
}
