//! The command, and the `curl`, that do the same as a page.

use haulage::JobId;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{protocol::MOST_LISTED, server::Api};

/// What needs no escape in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A part of a path.
pub(super) fn part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// What does the same, in a shell in which `HAULAGE_URL` and `HAULAGE_KEY` are set.
#[derive(Debug)]
pub(super) struct Same {
    pub(super) command: String,
    pub(super) curl: String,
}

impl Same {
    pub(super) fn set_paused(api: &Api, queue: &str, verb: &str) -> Self {
        Self {
            command: format!("haulage queue {verb} {}", word(queue)),
            curl: curl(api, "POST", &format!("/v1/queues/{}/{verb}", part(queue))),
        }
    }

    pub(super) fn cancel(api: &Api, id: &JobId) -> Self {
        Self {
            command: format!("haulage cancel {}", word(id.as_str())),
            curl: of_job(api, "POST", id, "/cancel"),
        }
    }

    pub(super) fn redrive(api: &Api, id: &JobId) -> Self {
        Self {
            command: format!("haulage retry {}", word(id.as_str())),
            curl: of_job(api, "POST", id, "/redrive"),
        }
    }

    pub(super) fn delete(api: &Api, id: &JobId) -> Self {
        Self { command: format!("haulage purge {}", word(id.as_str())), curl: of_job(api, "DELETE", id, "") }
    }

    pub(super) fn show(api: &Api, id: &JobId) -> Self {
        Self {
            command: format!("haulage show {}", word(id.as_str())),
            curl: of_job(api, "GET", id, "?body=true"),
        }
    }

    /// The dead letters that are `meant` by a condition of `jq`, among so many that there are.
    pub(super) fn redrive_dead(api: &Api, meant: &str, queue: Option<&str>, all: usize) -> Self {
        let of_queue = queue.map(|queue| format!(" --queue {}", word(queue))).unwrap_or_default();
        let each = curl(api, "POST", "/v1/jobs/{}/redrive");
        let in_queue = queue.map(|queue| format!("&queue={}", part(queue))).unwrap_or_default();
        Self {
            command: format!(
                "haulage dead list --json --limit {all}{of_queue} | jq -r {} | xargs haulage retry",
                word(&format!("select({meant}) | .id"))
            ),
            curl: format!(
                "{} | jq -r {} | xargs -I '{{}}' {each}",
                curl(api, "GET", &format!("/v1/jobs?dead=true&limit={}{in_queue}", all.min(MOST_LISTED))),
                word(&format!(".jobs[] | select({meant}) | .id")),
            ),
        }
    }
}

fn of_job(api: &Api, method: &str, id: &JobId, more: &str) -> String {
    curl(api, method, &format!("/v1/jobs/{}{more}", part(id.as_str())))
}

fn curl(api: &Api, method: &str, path: &str) -> String {
    let method = if method == "GET" { String::new() } else { format!(" --request {method}") };
    let key = if api.keys.is_some() { " --header \"Authorization: Bearer $HAULAGE_KEY\"" } else { "" };
    format!("curl --fail-with-body{method} \"$HAULAGE_URL{path}\"{key}")
}

/// One word to a shell.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        for text in ["plain-1", "", "two words", "it's; rm -rf /", "$(x) `y` \"z\" \\", "line\nend", "{}"] {
            let said = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", word(text)))
                .output()
                .expect("a shell");
            assert_eq!(String::from_utf8_lossy(&said.stdout), text);
        }
    }
}
