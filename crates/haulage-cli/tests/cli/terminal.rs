//! What a person at a terminal sees beside the data.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::Read as _,
    os::fd::FromRawFd as _,
    process::{Command, Stdio},
    ptr,
    sync::mpsc::{Receiver, channel},
};

use haulage_servers::Process;

use crate::place::{LONG, Place};

/// A program whose stderr is a terminal. Dropping it kills the program.
struct Terminal {
    _program: Process,
    shown: Receiver<Vec<u8>>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let (mut screen, mut stderr) = (-1, -1);
        let mut size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: all pointers are valid, or null where that means a default.
        let made = unsafe {
            let (name, modes) = (ptr::null_mut(), ptr::null_mut());
            libc::openpty(&raw mut screen, &raw mut stderr, name, modes, &raw mut size)
        };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both were opened just now, and nobody else knows of them.
        let (mut screen, stderr) = unsafe { (File::from_raw_fd(screen), File::from_raw_fd(stderr)) };
        command.env("TERM", "xterm").stderr(Stdio::from(stderr));
        let program = Process::start(&mut command);
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // When the last program has gone, Linux says so with an error.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let _ = send.send(bytes[..read].to_vec());
            }
        });
        Self { _program: program, shown }
    }

    /// Waits until this text has been shown.
    fn shows(&self, text: &str) {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let more = self.shown.recv_timeout(LONG);
            seen.extend(more.unwrap_or_else(|error| {
                panic!("{error}: no {text:?} in {:?}", String::from_utf8_lossy(&seen))
            }));
        }
    }
}

#[test]
fn who_waits_sees_at_once_for_what() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    Terminal::start(place.command(["wait", &id])).shows(&format!("waiting for {id}\r\n"));
    Terminal::start(place.command(["submit", "2", "--wait"])).shows("waiting for ");
    let later = place.submit(&["3", "--delay", "150m"]);
    Terminal::start(place.command(["wait", &later])).shows(&format!("waiting for {later} (due in 2h)\r\n"));
    Terminal::start(place.command(["wait", &id, &later])).shows("0/2");
}

#[test]
fn programs_and_who_need_not_wait_are_told_nothing() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let done = place.run(["wait", "--wait-timeout", "1ms", &id]);
    assert!(done.stderr.starts_with("haulage: not over after 1ms"), "{done:?}");
    place.ok(["cancel", &id]);
    Terminal::start(place.command(["wait", &id])).shows("haulage: ");
}
