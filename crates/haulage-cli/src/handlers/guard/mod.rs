//! Ends what jobs have started, whatever becomes of the worker.
//!
//! A small process of its own (`process.rs`), this program once more, knows
//! which programs run, and holds the end of a pipe. When the worker dies, by
//! `kill -9` as well, the pipe ends, and the guard kills them with all that they
//! started. It finds that by the process group, and, on Linux, by a mark in the
//! environment, which whatever leaves the group takes with it (`tree.rs`).

mod process;
mod tree;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

pub(crate) use self::process::Args;

use super::unix;
use crate::{env, host};

/// The guard of a worker. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// What the marks of this worker begin with: no other's do.
    token: String,
    last: u64,
    /// The programs that run, by the numbers in their marks; the process id
    /// where it is known yet.
    running: BTreeMap<u64, Option<libc::pid_t>>,
    /// What the guard is to delete where the worker cannot.
    folder: Option<PathBuf>,
    guard: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: std::process::Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts it. Without one, programs end with a killed worker, and what
    /// they started does not.
    pub(super) fn start(folder: Option<&Path>) -> io::Result<Self> {
        let mut random = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token = random.iter().fold(String::new(), |mut token, byte| {
            let _ = write!(token, "{byte:02x}");
            token
        });
        let folder = folder.map(Path::to_owned);
        let mut inner = Inner { token, last: 0, running: BTreeMap::new(), folder, guard: None };
        inner.restart();
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Starts a program, as the leader of a process group of its own.
    pub(super) fn spawn(
        &self,
        command: &mut tokio::process::Command,
    ) -> io::Result<(tokio::process::Child, Group)> {
        let (number, mark) = self.lock().begin();
        // From here on, it is ended with the worker.
        let mut group = Group { guard: self.clone(), number, mark, leader: None };
        let child = command.env(env::job::RUN, &group.mark).process_group(0).spawn();
        let child = child.inspect_err(|_| group.forget())?;
        group.leader = child.id().and_then(|id| libc::pid_t::try_from(id).ok());
        self.lock().started(number, group.leader);
        Ok((child, group))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self) -> (u64, String) {
        self.last += 1;
        self.running.insert(self.last, None);
        self.tell(&format!("{} 0\n", self.last));
        (self.last, format!("{}-{}", self.token, self.last))
    }

    fn started(&mut self, number: u64, leader: Option<libc::pid_t>) {
        self.running.insert(number, leader);
        self.tell(&line(number, leader));
    }

    fn ended(&mut self, number: u64) {
        self.running.remove(&number);
        self.tell(&format!("{number}\n"));
    }

    /// Tells the guard. One that is gone, or that takes no more, is replaced.
    fn tell(&mut self, line: &str) {
        if let Some(guard) = &mut self.guard
            && guard.pipe.write_all(line.as_bytes()).is_err()
        {
            self.restart();
        }
    }

    fn restart(&mut self) {
        if let Some(mut old) = self.guard.take() {
            tracing::warn!("the guard of this worker's programs is gone; another one takes its place");
            let _ = old.process.kill();
            let _ = old.process.wait();
        }
        match self.launch() {
            Ok(guard) => self.guard = Some(guard),
            Err(error) => tracing::warn!(
                %error, "cannot start a guard; what programs start may outlive a worker that is killed"
            ),
        }
    }

    fn launch(&self) -> io::Result<Running> {
        let mut command = host::alone()?;
        // Marks of a worker around this one, in its environment, are not for it.
        command.arg("guard").arg(&self.token).args(&self.folder).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        unix::ignore_stop_signals(&mut command);
        let mut process = command.spawn()?;
        let pipe = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        unix::set_nonblocking(&pipe)?;
        let mut guard = Running { process, pipe };
        let known: String = self.running.iter().map(|(number, leader)| line(*number, *leader)).collect();
        guard.pipe.write_all(known.as_bytes())?;
        Ok(guard)
    }
}

fn line(number: u64, leader: Option<libc::pid_t>) -> String {
    format!("{number} {}\n", leader.unwrap_or(0))
}

/// What a job has started: the process group of its program, and what left it.
/// Dropping it ends all of that.
#[derive(Debug)]
pub(super) struct Group {
    guard: Guard,
    number: u64,
    mark: String,
    leader: Option<libc::pid_t>,
}

impl Group {
    /// Asks the group to end: SIGTERM.
    pub(super) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Ends what is left of the group: SIGKILL.
    pub(super) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Ends what is left of the group, now that the leader has ended and its id
    /// may soon belong to somebody else. What has left the group on purpose, as
    /// with `setsid`, lives on.
    pub(super) fn finish(mut self) {
        self.kill();
        self.forget();
    }

    fn forget(&mut self) {
        self.leader = None;
        if self.number > 0 {
            self.guard.lock().ended(std::mem::take(&mut self.number));
        }
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(leader) = self.leader {
            unix::signal_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if self.number == 0 {
            return;
        }
        let (guard, number, mark) = (self.guard.clone(), self.number, std::mem::take(&mut self.mark));
        let sweep = move || {
            tree::end(|other| other == mark.as_bytes());
            // Until then, the guard would see to it.
            guard.lock().ended(number);
        };
        // Not here: a look at all processes takes its time.
        let _ = thread::Builder::new().name("haulage-sweep".into()).spawn(sweep);
    }
}
