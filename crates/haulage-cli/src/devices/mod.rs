//! The GPUs of a worker, and its slots that break. The rules are the same for programs, for
//! servers and for the child processes of the Python package, which calls [`health`] and [`gpus`].

pub mod gpus;
pub mod health;

/// Where a job runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) number: usize,
    pub(crate) device: Option<&'a str>,
}
