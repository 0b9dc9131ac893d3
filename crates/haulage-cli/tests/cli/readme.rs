//! What the README shows is what happens.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::place::Place;

/// The contents of the README's first block of this language.
fn block<'a>(readme: &'a str, language: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("```{language}\n")).expect("a block");
    rest.split_once("```").expect("the end of the block").0
}

#[test]
fn its_shell_commands_print_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let program = Path::new(env!("CARGO_BIN_EXE_haulage")).parent().expect("a folder");
    let path = std::env::var("PATH").expect("PATH");
    let place = Place::new();
    // Its worker ends also where a command before the last one fails.
    let script = format!("trap 'kill ${{!-}} 2>/dev/null || :' EXIT\n{}", block(&readme, "sh"));
    let output = Command::new("sh")
        .args(["-eu", "-c", &script])
        .current_dir(place.path(""))
        .env("PATH", format!("{}:{path}", program.display()))
        .env_remove("HAULAGE_URL")
        .stdin(Stdio::null())
        .output()
        .expect("run sh");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    let id = stdout.lines().find_map(|line| line.strip_suffix(" SUCCESS")).expect("a wait");
    assert_eq!(stdout.replace(id, "ID"), block(&readme, "text"), "{stderr}");
}
