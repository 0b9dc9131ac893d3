//! Progress bars on stderr. Where stderr is no terminal there are none.

use std::{borrow::Cow, fmt::Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A bar for so many jobs, with their rate and the time left.
pub(crate) fn bar(what: impl Into<Cow<'static, str>>, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_message(what);
    let template = "{msg} {bar:30} {human_pos}/{human_len}  {rate}  {eta} left";
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("rate", rate)),
        Err(_) => bar,
    }
}
