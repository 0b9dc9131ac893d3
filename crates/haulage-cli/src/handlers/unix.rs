//! What the exec handler needs of the operating system: an end to a whole
//! process group, and programs that do not outlive a killed worker.
//!
//! This is the only unsafe code of the program.
#![allow(unsafe_code)]

use tokio::process::{Child, Command};

/// The process group of a running program. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Group(Option<libc::pid_t>);

impl Group {
    /// The group of a program that was started as the leader of a new one.
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| libc::pid_t::try_from(id).ok()))
    }

    /// Asks the group to end: SIGTERM.
    pub(super) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Ends what is left of the group: SIGKILL.
    pub(super) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Ends what is left, now that the leader has ended and its id may soon
    /// belong to somebody else.
    pub(super) fn finish(mut self) {
        self.kill();
        self.0 = None;
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(leader) = self.0 {
            // SAFETY: no memory is involved. That the group may be gone by
            // now is no error.
            unsafe {
                libc::kill(-leader, signal);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets the kernel kill the program when the worker dies, however it dies.
///
/// Linux sends this signal when the *thread* that started the program ends.
/// All of this program's async code runs on the main thread, which ends with
/// the process. The signal reaches the program itself, not what it started.
#[cfg(target_os = "linux")]
pub(super) fn die_with_worker(command: &mut Command) {
    let worker = std::process::id();
    let arm = move || {
        // SAFETY: both are plain system calls.
        let (armed, parent) =
            unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0, libc::getppid()) };
        if !armed {
            return Err(std::io::Error::last_os_error());
        }
        if libc::pid_t::try_from(worker) != Ok(parent) {
            // The worker died before the signal was armed.
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
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
pub(super) fn die_with_worker(_command: &mut Command) {}
