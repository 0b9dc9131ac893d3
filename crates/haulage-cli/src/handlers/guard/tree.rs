//! What a job has started, wherever it went.

/// Ends every process whose mark is wanted, and what it starts meanwhile.
///
/// A mark is the value of `HAULAGE_RUN` that a process was started with.
/// Processes of other users have none that can be read, and neither has one that
/// writes over its environment, as some do to show a title.
#[cfg(target_os = "linux")]
pub(super) fn end(wanted: impl Fn(&[u8]) -> bool) {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    /// Longer than this, nothing takes that can be ended.
    const LIMIT: Duration = Duration::from_secs(5);
    /// How long a process that is killed may take to be gone.
    const AGAIN: Duration = Duration::from_millis(10);
    let until = Instant::now() + LIMIT;
    while look(&wanted) && Instant::now() < until {
        thread::sleep(AGAIN);
    }
}

/// Ends those that are there; whether there was any.
#[cfg(target_os = "linux")]
fn look(wanted: &impl Fn(&[u8]) -> bool) -> bool {
    use super::super::unix;
    use crate::env;

    let name = format!("{}=", env::job::RUN);
    let own = std::process::id();
    let mut any = false;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let mut variables = environment.split(|byte| *byte == 0);
        let mark = variables.find_map(|variable| variable.strip_prefix(name.as_bytes()));
        if id != own && mark.is_some_and(wanted) {
            any = true;
            if let Ok(id) = libc::pid_t::try_from(id) {
                unix::kill(id);
            }
        }
    }
    any
}

/// Elsewhere nobody can look into another process's environment.
#[cfg(not(target_os = "linux"))]
pub(super) fn end(_wanted: impl Fn(&[u8]) -> bool) {}
