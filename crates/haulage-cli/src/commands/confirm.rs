//! Asking a person before something is done that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::{
    exit::{Code, Exit, Result},
    output::Output,
};

/// Asks; unless the answer is yes, ends with `otherwise`, such as "nothing was deleted".
pub(super) fn confirm(output: Output, question: &str, otherwise: &str) -> Result {
    if !io::stdin().is_terminal() {
        return Err(Exit::usage(format!("{otherwise}, since there is no terminal to ask on; add --yes")));
    }
    output.prompt(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
        return Err(Exit::new(Code::Failure, otherwise));
    }
    Ok(())
}
