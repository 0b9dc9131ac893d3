//! The first process of a container: a worker there has children that it never
//! started.
//!
//! Whatever loses its parent becomes a child of process 1, which is to take note
//! of its end; otherwise it stays as a zombie, until there is no room for another
//! process. So process 1 is no worker: it starts one, passes signals on to it,
//! takes note of all ends, and ends with it.
#![allow(unsafe_code)]

use std::{
    io,
    mem::MaybeUninit,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Command, ExitStatus},
    ptr,
};

/// The signals that the worker is passed on.
const PASSED: [libc::c_int; 6] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// Where this is process 1: runs the same command in a child; its exit code.
pub(crate) fn run_in_child() -> io::Result<Option<u8>> {
    if std::process::id() != 1 {
        return Ok(None);
    }
    let signals = block()?;
    let program =
        if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let unblock = move || {
        // SAFETY: the pointer is to a set that lives on.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signals, ptr::null_mut()) };
        Ok(())
    };
    // SAFETY: runs between fork and exec, where only async-signal-safe calls are
    // allowed: this is one, and nothing is allocated.
    unsafe {
        command.pre_exec(unblock);
    }
    // A group of its own, so that it does not hear Ctrl-C from the terminal as well.
    let child = command.args(arguments).process_group(0).spawn()?;
    let child = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    loop {
        match next(&signals) {
            libc::SIGCHLD => {
                if let Some(status) = reap(child) {
                    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                    return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX)));
                }
            }
            // SAFETY: a plain system call, to a child whose end is not noted yet.
            signal => unsafe {
                libc::kill(child, signal);
            },
        }
    }
}

/// From here on, signals wait until `next` takes them.
fn block() -> io::Result<libc::sigset_t> {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes it a set, and no thread uses it but this.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        let mut signals = signals.assume_init();
        for signal in PASSED.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(&raw mut signals, signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, ptr::null_mut()) {
            0 => Ok(signals),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn next(signals: &libc::sigset_t) -> libc::c_int {
    let mut signal = 0;
    // SAFETY: both pointers are to values that live on. It fails for sets that
    // are no sets only.
    unsafe { libc::sigwait(signals, &raw mut signal) };
    signal
}

/// Takes note of every end; how `child` ended, once it did.
fn reap(child: libc::pid_t) -> Option<ExitStatus> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a value that lives on.
        let process = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match process {
            1.. if process == child => ended = Some(ExitStatus::from_raw(status)),
            1.. => {}
            _ => return ended,
        }
    }
}
