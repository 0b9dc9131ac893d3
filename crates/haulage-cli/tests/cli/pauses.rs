//! Workers that are stopped for a while, as by a laptop's lid or Ctrl-Z.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::place::Place;

#[test]
fn a_worker_stopped_for_longer_than_its_lease_goes_on_with_its_job() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    let made = std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo");
    assert!(made.success());
    let id = place.submit(&["1", "--max-attempts", "1"]);
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let worker = place.worker(&["--lease", "4s", "--concurrency", "2", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    for _ in 0..2 {
        worker.signal("STOP");
        // For more than two leases, and somebody looks.
        sleep(Duration::from_secs(9));
        assert_eq!(place.record(&id)["status"], json!("IN_PROGRESS"));
        worker.signal("CONT");
        // Its heartbeats are ahead of its own look for work, and of whoever else looks: for longer
        // than the notice that a look gives to who is silent, which is another lease.
        let goes_on = Instant::now();
        while goes_on.elapsed() < Duration::from_secs(5) {
            assert_eq!(place.record(&id)["status"], json!("IN_PROGRESS"));
            sleep(Duration::from_millis(200));
        }
    }
    std::fs::write(go, "go\n").expect("write");
    assert_eq!(place.ok(["wait", &id]), format!("{id} SUCCESS"));
    let record = place.record(&id);
    assert_eq!((&record["attempt"], &record["error"]), (&json!(1), &json!(null)), "{record}");
    worker.stop();
}
