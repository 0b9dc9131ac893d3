//! Servers start side by side, and end with whoever started them.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use haulage_servers::{Process, Server, ministack};

fn listens(url: &str) -> bool {
    TcpStream::connect(url.trim_start_matches("http://")).is_ok()
}

/// Waits until nothing listens there. A process that was killed cannot tell.
fn assert_ends(url: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while listens(url) {
        assert!(Instant::now() < until, "{url} still listens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn servers_start_at_once_on_ports_of_their_own() {
    let starts: Vec<_> = (0..6).map(|_| thread::spawn(ministack)).collect();
    let servers: Vec<Server> = starts.into_iter().map(|start| start.join().expect("a server")).collect();
    let urls: HashSet<String> = servers.iter().map(|server| server.url().to_owned()).collect();
    assert_eq!(urls.len(), servers.len());
    assert!(urls.iter().all(|url| listens(url)));
    drop(servers);
    urls.iter().for_each(|url| assert_ends(url));
}

#[test]
fn a_server_dies_with_the_process_that_started_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-servers"));
    command.args(["ministack", "--", "sh", "-c", "echo $AWS_ENDPOINT_URL; read end"]);
    let mut holder = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut url = String::new();
    BufReader::new(holder.stdout.take().expect("its output")).read_line(&mut url).expect("a line");
    let url = url.trim();
    assert!(listens(url), "{url:?}");
    holder.kill().expect("a kill -9");
    holder.wait().expect("its end");
    assert_ends(url);
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let run = |code: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_with-servers"));
        command.args(["ministack", "--", "sh", "-c", code]).status().expect("with-servers").code()
    };
    assert_eq!(run("exit 7"), Some(7));
    assert_eq!(run("test -n \"$AWS_ENDPOINT_URL\""), Some(0));
}
