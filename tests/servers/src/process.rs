//! A program that a test starts, and that does not outlive the test.

use std::{
    io::{self, Read as _},
    ops::{Deref, DerefMut},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output},
    thread,
};

/// A running program. Dropping it kills it, also where a test fails.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it as a terminal would: what a shell starts in the background
    /// (`nohup make test &`) ignores Ctrl-C and the end of the terminal, and this
    /// program would inherit that.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[allow(unsafe_code)]
    pub fn start(command: &mut Command) -> Self {
        // SAFETY: `signal` may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGINT, libc::SIGHUP] {
                    if libc::signal(signal, libc::SIG_DFL) == libc::SIG_ERR {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
    }

    /// Sends it a signal, such as [`libc::SIGTERM`].
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[allow(unsafe_code)]
    pub fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.0.id()).expect("a process id");
        // SAFETY: the child has not been waited for by id, so the id is still its own.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    }

    /// Waits for its end; its status, and what it has written where that is piped.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn output(mut self) -> Output {
        let errors = self.0.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut text = Vec::new();
                pipe.read_to_end(&mut text).map(|_| text)
            })
        });
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.0.stdout.take() {
            pipe.read_to_end(&mut stdout).expect("its stdout");
        }
        let stderr = errors.map(|thread| thread.join().expect("a reader").expect("its stderr"));
        let status = self.0.wait().expect("its end");
        Output { status, stdout, stderr: stderr.unwrap_or_default() }
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
