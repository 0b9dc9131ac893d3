//! The core of the Python package `haulage`: what needs threads that never
//! wait for the interpreter, or has to be fast. The package's own modules,
//! in Python, make an interface of it.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `process`, `closing` | what there is once a process: runtime, fork, the end |
//! | `operation` | a call of the core, to be waited for in either way |
//! | `client`, `job`, `record`, `records` | the producer's side |
//! | `consumer`, `pages`, `calls`, `call`, `context` | the consumer's side |
//! | `devices` | GPUs, and whether slots work |
//! | `command` | the command line of the program `haulage` |
//! | `encode`, `errors`, `convert` | values on their way between the languages |
//! | `log`, `output` | from `tracing` to `logging`, and from there, and from handlers, to stderr |

mod call;
mod calls;
mod client;
mod closing;
mod command;
mod consumer;
mod context;
mod convert;
mod devices;
mod encode;
mod errors;
mod job;
mod log;
mod operation;
mod output;
mod pages;
mod process;
mod record;
#[cfg(feature = "aws")]
mod records;

use pyo3::prelude::*;

#[pymodule]
mod _haulage {
    #[pymodule_export]
    use super::{
        call::Call,
        calls::CallQueue,
        client::{Client, connect, connect_manual},
        closing::close,
        command::command,
        consumer::Consumer,
        context::Context,
        devices::{Health, gpu_devices, is_out_of_memory, slot_environment, slot_name},
        encode::dumps,
        encode::dumps_checkpoint,
        job::NewJob,
        log::{log_level, logs_written, next_logs},
        operation::Operation,
        output::{keep_stdout, log_flush, log_line, log_start, stdout_is_terminal},
        pages::Pages,
        record::Attempt,
        record::Record,
    };

    #[cfg(feature = "aws")]
    #[pymodule_export]
    use super::records::{Records, connect_records};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const AWS: bool = cfg!(feature = "aws");
}
