//! What the exec handler needs of the operating system: an end to whole process
//! groups, programs that do not outlive a killed worker, and their limits.
//!
//! This is the only unsafe code of the program.
#![allow(unsafe_code)]

use std::{io, os::unix::process::CommandExt as _, process::Command};

/// Sends the signal to a process group.
pub(super) fn signal_group(leader: libc::pid_t, signal: libc::c_int) {
    // SAFETY: no memory is involved. That the group may be gone by now is no
    // error.
    unsafe {
        libc::kill(-leader, signal);
    }
}

/// Ends a process: SIGKILL.
#[cfg(target_os = "linux")]
pub(super) fn kill(process: libc::pid_t) {
    // SAFETY: as above.
    unsafe {
        libc::kill(process, libc::SIGKILL);
    }
}

/// Lets the kernel kill the program when the worker dies, however it dies.
///
/// Linux sends this signal when the *thread* that started the program ends.
/// All of this program's async code runs on the main thread, which ends with
/// the process. The signal reaches the program itself; what that started, the
/// guard ends.
#[cfg(target_os = "linux")]
pub(crate) fn die_with_worker(command: &mut Command) {
    let worker = std::process::id();
    let arm = move || {
        // SAFETY: both are plain system calls.
        let (armed, parent) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0, libc::getppid()) };
        if !armed {
            return Err(io::Error::last_os_error());
        }
        if libc::pid_t::try_from(worker) != Ok(parent) {
            // The worker died before the signal was armed.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: runs between fork and exec, where only async-signal-safe calls
    // are allowed: prctl and getppid are, and nothing is allocated.
    unsafe {
        command.pre_exec(arm);
    }
}

/// Elsewhere there is no such signal.
#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_worker(_command: &mut Command) {}

/// What a program may use; see `setrlimit(2)`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// Bytes of memory of its own, in each process: RLIMIT_DATA.
    Memory,
    /// Processes and threads of its user: RLIMIT_NPROC.
    Processes,
}

/// Sets a limit for the program, and for what it starts.
pub(super) fn limit(command: &mut Command, what: Limit, most: u64) {
    let resource = match what {
        Limit::Memory => libc::RLIMIT_DATA,
        Limit::Processes => libc::RLIMIT_NPROC,
    };
    let most = libc::rlim_t::from(most);
    let set = move || {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the pointer is to a value that lives on.
        if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: as above; setrlimit is a plain system call.
    unsafe {
        command.pre_exec(set);
    }
}

/// Lets the program start out with the signals ignored that ask for an end: a
/// guard ends with its worker, and not with the group of processes that they
/// are both in.
pub(super) fn ignore_stop_signals(command: &mut Command) {
    let ignore = || {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            // SAFETY: a plain system call.
            unsafe {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
        Ok(())
    };
    // SAFETY: as above; signal is async-signal-safe.
    unsafe {
        command.pre_exec(ignore);
    }
}

/// Lets writes to the pipe fail where they would wait.
pub(super) fn set_nonblocking(pipe: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `pipe` is borrowed.
    unsafe {
        let flags = libc::fcntl(pipe.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
