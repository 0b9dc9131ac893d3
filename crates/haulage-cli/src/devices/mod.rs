//! The GPUs of a worker, and its slots that break. The rules are the same for programs, for
//! servers and for the child processes of the Python package, which calls [`health`] and [`gpus`].

pub mod gpus;
pub mod health;
mod pool;

pub(crate) use self::pool::{Options, Pool, Slot};
