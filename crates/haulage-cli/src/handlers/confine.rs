//! What a program gets of the worker's surroundings, and how much of the machine.

use std::{collections::BTreeMap, ffi::OsString};

use tokio::process::Command;

use super::unix::{self, Limit};

/// What every program may know, with `--clean-env`: none of it is a secret.
const ALWAYS: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// The environment and the limits of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confinement {
    /// Nothing of the worker's own environment but what is always there, and
    /// what is named.
    pub(crate) clean: bool,
    /// Variables by name; without a value, as the worker has them.
    pub(crate) variables: BTreeMap<String, Option<OsString>>,
    /// Bytes of memory that each of its processes may have of its own.
    pub(crate) memory: Option<u64>,
    /// Processes that its user may have.
    pub(crate) processes: Option<u64>,
}

impl Confinement {
    /// Whether it changes nothing.
    pub(crate) fn is_none(&self) -> bool {
        !self.clean && self.variables.is_empty() && self.memory.is_none() && self.processes.is_none()
    }

    pub(super) fn apply(&self, command: &mut Command) {
        if self.clean {
            command.env_clear();
            for name in ALWAYS {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        for (name, value) in &self.variables {
            match value.clone().or_else(|| std::env::var_os(name)) {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(most) = self.memory {
            unix::limit(command.as_std_mut(), Limit::Memory, most);
        }
        if let Some(most) = self.processes {
            unix::limit(command.as_std_mut(), Limit::Processes, most);
        }
    }
}
