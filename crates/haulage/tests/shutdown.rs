//! Signals, in a process of their own: they are the process's.

#![cfg(unix)]

use std::{process::Command, time::Duration};

use haulage::shutdown::Shutdown;

/// Sends it to this process. `kill` is part of every shell, and no program everywhere.
fn signal(name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill {name} $PPID")]).status();
    assert!(status.expect("a shell").success());
}

#[tokio::test]
async fn the_first_signal_is_polite_and_the_second_is_not() {
    let limit = Duration::from_secs(300);
    // Under `nohup` it would stay ignored.
    // SAFETY: nobody in this process minds that signal yet.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_DFL)
    };
    let shutdown = Shutdown::on_signals().expect("signals can be caught");
    assert!(!shutdown.is_stopping());
    signal("-TERM");
    tokio::time::timeout(limit, shutdown.stopping()).await.expect("told to stop");
    assert!(!shutdown.is_stopping_now());
    signal("-INT");
    tokio::time::timeout(limit, shutdown.stopping_now()).await.expect("told to stop at once");

    // After the program's own stop, the first signal is the second word.
    let shutdown = Shutdown::on_signals().expect("signals can be caught");
    shutdown.stop();
    assert!(!shutdown.is_stopping_now());
    signal("-INT");
    tokio::time::timeout(limit, shutdown.stopping_now()).await.expect("told to stop at once");

    // A terminal that goes away is a polite signal, too.
    let shutdown = Shutdown::on_signals().expect("signals can be caught");
    signal("-HUP");
    tokio::time::timeout(limit, shutdown.stopping()).await.expect("told to stop");
}
