//! What nobody else has: marks of writes, and tokens of submits.
//!
//! They come from the operating system at each use. A generator of this
//! process's own would be copied with it, by a fork, by a snapshot of a virtual
//! machine, by what starts functions faster; and one that begins with a clock
//! begins alike on machines that start together. The copies would give two jobs
//! one name, and SQS would take the second for the first sent again.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A mark that no other write has: 12 characters.
pub(crate) fn mark() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<9>())
}

/// What names a job before it has an id, and proves later that a message is of
/// it: 24 characters, which nobody guesses.
pub(crate) fn token() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<18>())
}

/// # Panics
///
/// If the system has no random numbers, without which nothing here is safe.
fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod tests {
    use std::{io::Read, os::fd::FromRawFd, process::Command};

    use super::*;

    /// What a copy of this process draws next.
    fn of_a_copy(draw: fn() -> String) -> String {
        let mut ends = [0; 2];
        // SAFETY: the child only draws, writes into a pipe that is open, and ends
        // without running anything of its parent's.
        let mut read = unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                let drawn = draw();
                libc::write(ends[1], drawn.as_ptr().cast(), drawn.len());
                libc::_exit(0);
            }
            libc::close(ends[1]);
            libc::waitpid(child, std::ptr::null_mut(), 0);
            std::fs::File::from_raw_fd(ends[0])
        };
        let mut drawn = String::new();
        read.read_to_string(&mut drawn).expect("what it drew");
        drawn
    }

    #[test]
    fn a_copy_of_a_process_draws_other_tokens_and_marks() {
        for draw in [token, mark] {
            // The copy is of a process that has drawn before.
            let before = draw();
            let copies: Vec<String> = (0..3).map(|_| of_a_copy(draw)).collect();
            let own = draw();
            assert!(own.len() >= 12 && before != own);
            for (n, copy) in copies.iter().enumerate() {
                assert_eq!(copy.len(), own.len());
                assert!(*copy != own && !copies[n + 1..].contains(copy), "{own}, {copies:?}");
            }
        }
    }

    /// Makes the clocks of each process stand at the same moment.
    const CLOCK: &str = "
        #include <time.h>
        int clock_gettime(clockid_t id, struct timespec *t) {
            (void)id;
            t->tv_sec = 1800000000;
            t->tv_nsec = 0;
            return 0;
        }
    ";

    /// In whose environment this is, draws.
    const DRAWS: &str = "HAULAGE_TEST_DRAWS";

    #[test]
    fn processes_whose_clocks_agree_draw_other_tokens_and_marks() {
        if std::env::var_os(DRAWS).is_some() {
            println!("drawn: {} {}", token(), mark());
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, CLOCK).expect("a file");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(built.expect("a C compiler").success());
        let drawn: Vec<String> = (0..4)
            .map(|_| {
                let output = Command::new(std::env::current_exe().expect("this program"))
                    .args(["--exact", "--nocapture", "--test-threads", "1"])
                    .arg("random::tests::processes_whose_clocks_agree_draw_other_tokens_and_marks")
                    .env("LD_PRELOAD", &library)
                    .env(DRAWS, "1")
                    .output();
                let said = String::from_utf8(output.expect("an answer").stdout).expect("text");
                let drawn = said.lines().find_map(|line| Some(line.split_once("drawn: ")?.1.to_owned()));
                drawn.unwrap_or_else(|| panic!("nothing was drawn: {said}"))
            })
            .collect();
        let mut distinct = drawn.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), drawn.len(), "{drawn:?}");
    }
}
