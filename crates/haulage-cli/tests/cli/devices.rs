//! GPUs that are pinned, and what runs the jobs where it breaks.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::{Value, json};

use crate::{
    place::{Place, Worker},
    server::{Answer, Server},
    site::Site,
};

/// Succeeds with the GPU's number, unless the file `broken-N` stands for a GPU that is lost.
const INFER: &str = "if [ -e broken-$HAULAGE_GPU ]; then echo 'RuntimeError: CUDA error: device lost' >&2; \
                     echo 'For debugging consider passing CUDA_LAUNCH_BLOCKING=1' >&2; exit 1; fi; \
                     sleep 0.02; echo $HAULAGE_GPU";

/// A machine with three GPUs, as `nvidia-smi` has it.
fn place() -> Place {
    let place = Place::new();
    let tool = place.write("nvidia-smi", "#!/bin/sh\nprintf '0\\n1\\n2\\n'\n");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("make it executable");
    place
}

/// A worker's command there.
fn command(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command([&["worker", "--retry-base", "0"], args].concat());
    let path = std::env::var("PATH").expect("PATH");
    command.env("PATH", format!("{}:{path}", place.path("").display()));
    command
}

/// Submits so many jobs of one attempt each, and gives their ids.
fn submit_many(place: &Place, count: usize) -> Vec<String> {
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    let done = place.feed(["submit", "--jsonl", "-", "--max-attempts", "1"], &lines);
    assert_eq!(done.code, Some(0), "{done:?}");
    done.stdout.lines().map(str::to_owned).collect()
}

/// The results of these jobs, once they have succeeded.
fn results(place: &Place, ids: &[String]) -> Vec<Value> {
    let result = |id: &String| {
        place.ok(["wait", "--wait-timeout", "300", id]);
        serde_json::from_str(&place.ok(["result", id])).expect("JSON")
    };
    ids.iter().map(result).collect()
}

#[test]
fn each_program_sees_the_gpu_of_its_slot_and_no_other() {
    let place = place();
    let ids = submit_many(&place, 4);
    // All four at once, or none of them ends.
    let line = "touch at-$HAULAGE_SLOT; while [ $(ls -d at-* | wc -l) -lt 4 ]; do sleep 0.02; done; \
                echo \"\\\"$HAULAGE_SLOT $HAULAGE_GPU $CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $CUDA_DEVICE_ORDER\\\"\"";
    let worker = Worker::start(command(&place, &["--gpus", "0,2", "--slots-per-gpu", "2", "--shell", line]));
    assert!(worker.says("worker starts").contains("concurrency=4 gpus=0,2 "));
    let mut seen = results(&place, &ids);
    seen.sort_by_key(ToString::to_string);
    let expected = ["0 0 0 0", "1 2 2 2", "2 0 0 0", "3 2 2 2"].map(|slot| format!("{slot} PCI_BUS_ID"));
    assert_eq!(seen, expected.map(Value::from));
    worker.stop();
}

#[test]
fn a_gpu_that_is_lost_takes_no_jobs_until_its_health_check_says_that_it_is_back() {
    let place = place();
    place.write("broken-1", "");
    let check = "sh -c 'test ! -e broken-$CUDA_VISIBLE_DEVICES || { echo GPU is lost >&2; exit 1; }'";
    let args = ["--gpus", "0,1", "--health-check", check, "--shell", INFER];
    let worker = Worker::start(command(&place, &args));
    let ids = submit_many(&place, 40);
    assert!(results(&place, &ids).iter().all(|gpu| *gpu == json!(0)));
    let line = worker.says("does not work, and takes no jobs until it does");
    assert!(
        line.contains("slot 1, GPU 1 does not work") && line.contains("exit code 1: For debugging"),
        "{line}"
    );
    let line = worker.says("still does not work");
    assert!(line.contains("its health check ended with exit status: 1: GPU is lost"), "{line}");
    fs::remove_file(place.path("broken-1")).expect("mend it");
    worker.says("slot 1, GPU 1 takes jobs again");
    while !results(&place, &submit_many(&place, 4)).contains(&json!(1)) {}
    worker.stop();
}

#[test]
fn a_job_that_breaks_one_gpu_after_the_other_is_at_fault_itself() {
    let place = place();
    let poison = place.submit(&["\"poison\"", "--max-attempts", "1"]);
    let others = submit_many(&place, 10);
    let line = "read body; [ \"$body\" != '\"poison\"' ] || { echo $HAULAGE_GPU >> broke; echo no >&2; exit 75; }; echo 1";
    let worker = Worker::start(command(&place, &["--gpus", "0,1", "--shell", line]));
    place.run(["wait", "--wait-timeout", "300", &poison]);
    let record = place.record(&poison);
    assert_eq!((&record["status"], &record["dead"]), (&json!("ERROR"), &json!(true)), "{record}");
    // It may come to the first one again before it comes to the other.
    let broke = fs::read_to_string(place.path("broke")).expect("what the program notes");
    let broke: Vec<&str> = broke.lines().collect();
    let (last, before) = broke.split_last().expect("an attempt");
    assert!(!before.is_empty() && before.iter().all(|gpu| gpu == &before[0] && gpu != last), "{broke:?}");
    assert_eq!(record["slot"], format!("slot {last}, GPU {last}"), "{record}");
    assert_eq!(record["attempt"], broke.len(), "none after it has broken both: {record}");
    assert_eq!(record["error"]["message"], "exit code 75 (what it runs on is broken): no");
    results(&place, &others);
    worker.stop();
}

#[test]
fn jobs_that_run_into_their_timeouts_speak_against_their_gpu() {
    let mut said = Vec::new();
    // On a machine under load, jobs of the other GPU may run into theirs as well.
    for (timeout, takes) in [("500ms", "0.2"), ("3s", "1.2"), ("15s", "6")] {
        let place = place();
        let timed = ["1", "--timeout", timeout, "--max-attempts", "9"];
        let ids: Vec<String> = (0..12).map(|_| place.submit(&timed)).collect();
        let hang = format!("[ $HAULAGE_GPU != 1 ] || exec sleep 1000; sleep {takes}; echo 1");
        let worker = Worker::start(command(&place, &["--gpus", "0,1", "--shell", &hang]));
        let line = worker.says("does not work, and takes no jobs until it does");
        assert!(line.contains("a job ran into its timeout"), "{line}");
        let succeeds = |id: &String| place.run(["wait", "--wait-timeout", "300", id]).code == Some(0);
        if line.contains("slot 1, GPU 1") && ids.iter().all(succeeds) {
            return worker.stop();
        }
        said.push(line);
    }
    panic!("{said:#?}");
}

#[test]
fn a_worker_without_gpus_takes_no_jobs_while_its_program_says_that_it_is_broken() {
    let place = Place::new();
    place.write("broken", "");
    let line = "[ ! -e broken ] || { echo no accelerator >&2; exit 75; }; cat";
    let site =
        Site::start(&place, &["--concurrency", "2", "--health-check", "test ! -e broken", "--shell", line]);
    let ids = submit_many(&place, 6);
    site.becomes("/ready", 500, "this worker: exit code 75 (what it runs on is broken): no accelerator");
    site.becomes("/metrics", 200, "haulage_slots_quarantined{store=\"haulage.db\"} 2\n");
    site.worker.says("this worker still does not work");
    fs::remove_file(place.path("broken")).expect("mend it");
    assert_eq!(results(&place, &ids).len(), 6);
    site.becomes("/metrics", 200, "haulage_slots_quarantined{store=\"haulage.db\"} 0\n");
    site.becomes("/ready", 200, "ok");
    site.worker.stop();
}

#[test]
fn a_server_says_by_a_header_that_it_is_broken() {
    let place = Place::new();
    place.write("broken", "");
    let broken = place.path("broken");
    let server = Server::start(move |request| match broken.exists() {
        true if request.line.starts_with("POST") => Answer::Full(
            "500 Internal Server Error",
            "X-Haulage-Worker-Broken: Xid 79\r\n".into(),
            "{\"error\": \"cuda\"}".into(),
        ),
        true => Answer::new("503 Service Unavailable", "{\"gpu\": \"lost\"}"),
        false => Answer::new("200 OK", "1"),
    });
    let ids = submit_many(&place, 5);
    // It is ready until it has broken.
    let url = server.url("/infer");
    let site = Site::start(&place, &["--concurrency", "3", "--http", &url]);
    site.becomes("/ready", 500, &format!("this worker: {url} says that it is broken: Xid 79"));
    site.becomes("/metrics", 200, "haulage_slots_quarantined{store=\"haulage.db\"} 3\n");
    fs::remove_file(place.path("broken")).expect("mend it");
    assert_eq!(results(&place, &ids), [1, 1, 1, 1, 1]);
    site.becomes("/metrics", 200, "haulage_slots_quarantined{store=\"haulage.db\"} 0\n");
    site.worker.stop();
}

#[test]
fn a_worker_on_which_nothing_works_ends_with_a_code_of_its_own() {
    let place = place();
    let ids = submit_many(&place, 2);
    let program = ["--quarantine-limit", "1ms", "--health-check", "false", "--shell", "exit 75"];
    for (gpus, why) in [(&["--gpus", "0"][..], "no slot works any more"), (&[], "no job gets through")] {
        let output = command(&place, &[gpus, &program].concat()).output().expect("run the worker");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("haulage: the worker is broken, and ends; run it elsewhere: {why}: ")),
            "{stderr}"
        );
        for id in &ids {
            let record = place.record(id);
            assert_eq!(
                (&record["status"], &record["dead"]),
                (&json!("SUBMITTED"), &json!(false)),
                "{record}"
            );
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = place();
    for (args, why) in [
        (&["--gpus", "3", "--exec", "cat"][..], "--gpus: there is no GPU 3 here; there are 0, 1, 2"),
        (&["--gpus", "0;1", "--exec", "cat"], "--gpus: `0;1` is not a GPU; give all, or numbers such as 0,2"),
        (
            &["--gpus", "all", "--concurrency", "2", "--exec", "cat"],
            "give --concurrency, or --gpus with --slots-per-gpu, which says how many jobs run at once, but not both",
        ),
        (&["--slots-per-gpu", "2", "--exec", "cat"], "--slots-per-gpu goes with --gpus, and there is none"),
        (
            &["--health-check", "'", "--exec", "cat"],
            "cannot split the command of --health-check into words: ",
        ),
        (&["--health-check", "", "--exec", "cat"], "--health-check needs a command to run"),
        (
            &["--gpus", "0", "--http", "http://localhost/"],
            "--gpus goes with --exec, --shell and --python; a server has chosen its GPUs when its worker starts",
        ),
    ] {
        let output = command(&place, args).output().expect("run the worker");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("haulage: {why}")), "{stderr}");
    }
    let mut none = command(&place, &["--gpus", "all", "--exec", "cat"]);
    none.env("CUDA_VISIBLE_DEVICES", "");
    let stderr = String::from_utf8(none.output().expect("run the worker").stderr).expect("UTF-8");
    assert!(stderr.starts_with("haulage: --gpus: CUDA_VISIBLE_DEVICES is \"\": no GPU is named"), "{stderr}");
}
