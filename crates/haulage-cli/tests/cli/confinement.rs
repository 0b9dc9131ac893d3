//! What a program gets of the worker's environment and of the machine.

use serde_json::{Value, json};

use crate::place::{Place, Worker};

/// What the program sees of its environment.
fn environment(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let line = "env -0 | tr '\\0\\n' '\\n ' | sed 's/\"/ /g; s/.*/\"&\"/' | paste -sd, | sed 's/.*/[&]/'";
    let mut command = place.command([&["worker", "--shell", line], args].concat());
    command.envs(variables.iter().copied());
    let worker = Worker::start(command);
    place.ok(["wait", &id]);
    worker.stop();
    let names: Value = serde_json::from_str(&place.ok(["result", &id])).expect("JSON");
    names.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn credentials_of_the_worker_reach_a_program_where_they_are_named() {
    let secrets = [("AWS_SECRET_ACCESS_KEY", "s3cret"), ("DB_PASSWORD", "hunter2"), ("TZ", "UTC")];
    let all = environment(&[], &secrets);
    assert!(all.contains(&"AWS_SECRET_ACCESS_KEY=s3cret".to_owned()), "{all:?}");
    let clean = environment(&["--clean-env", "--env", "DB_PASSWORD", "--env", "MODEL=a b"], &secrets);
    for wanted in ["DB_PASSWORD=hunter2", "MODEL=a b", "TZ=UTC"] {
        assert!(clean.contains(&wanted.to_owned()), "{clean:?}");
    }
    assert!(!clean.iter().any(|variable| variable.contains("s3cret")), "{clean:?}");
    for name in ["PATH", "HAULAGE_JOB_ID", "HAULAGE_URL", "HAULAGE_RESULT", "HAULAGE_ATTEMPT"] {
        assert!(clean.iter().any(|variable| variable.starts_with(&format!("{name}="))), "{name}: {clean:?}");
    }
    // The same by the environment.
    let settings = [("HAULAGE_CLEAN_ENV", "true"), ("HAULAGE_ENV", "DB_PASSWORD 'MODEL=a b'")];
    let clean = environment(&[], &[&secrets[..], &settings[..]].concat());
    assert!(
        clean.contains(&"MODEL=a b".to_owned()) && clean.contains(&"DB_PASSWORD=hunter2".to_owned()),
        "{clean:?}"
    );
    assert!(!clean.iter().any(|variable| variable.contains("s3cret")), "{clean:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_has_no_more_memory_than_it_may() {
    // The shell reads all of it into a variable.
    let line = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let record =
        Place::new().work(&["1", "--max-attempts", "1"], &["--memory-limit", "64MiB", "--shell", line]);
    assert_eq!(record["status"], json!("ERROR"), "{record}");
    let record =
        Place::new().work(&["1", "--max-attempts", "1"], &["--memory-limit", "2GiB", "--shell", line]);
    assert_eq!(record["result"], json!(300_000_000), "{record}");
}

#[test]
fn limits_reach_the_program() {
    let line = "printf '\"%s %s\"' $(ulimit -u 2>/dev/null || ulimit -p) $(ulimit -d)";
    let record =
        Place::new().work(&["1"], &["--process-limit", "4321", "--memory-limit", "1G", "--shell", line]);
    assert_eq!(record["result"], json!("4321 1048576"), "{record}");
}

#[test]
fn a_limit_without_a_program_is_refused() {
    let place = Place::new();
    let done = place.run(["worker", "--http", "http://localhost:9/", "--clean-env"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("go with --exec and --shell, and there is none"), "{done:?}");
    let done = place.run(["worker", "--exec", "cat", "--env", "=x"]);
    assert!(done.code == Some(2) && done.stderr.contains("names no variable"), "{done:?}");
}
